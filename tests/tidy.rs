//! The house rules, as a test: who may depend on whom, where unsafe code may live, what must not be left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that git tracks and that ends in one of these.
fn tracked(endings: &[&str]) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .expect("git lists the tracked files");
    assert!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let files: Vec<_> = names
        .split('\0')
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .map(PathBuf::from)
        .filter(|path| root().join(path).exists())
        .collect();
    assert!(!files.is_empty(), "no tracked file ends in {endings:?}");
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn refuse(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Lines of `text` that are code: neither comments nor doc comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn siblings_do_not_know_each_other() {
    // The crates on the left may depend, of our own, only on those on the right.
    let edges: &[(&str, &[&str])] = &[
        ("initiator/iscsi-client", &[]),
        ("initiator/multipath", &["iscsi-client"]),
        ("ublk-dev", &[]),
        ("lockmgr", &[]),
        ("tests/lab", &[]),
    ];
    let ours = [
        "iscsi-client",
        "multipath",
        "ublk-dev",
        "lockmgr",
        "kit",
        "lab",
        "sanblk",
    ];
    let mut complaints = vec![];
    for (member, allowed) in edges {
        let manifest = read(&Path::new(member).join("Cargo.toml"));
        let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
        let dependencies = manifest.get("dependencies").and_then(|d| d.as_table());
        for name in dependencies.into_iter().flat_map(|table| table.keys()) {
            if ours.contains(&name.as_str()) && !allowed.contains(&name.as_str()) {
                complaints.push(format!("{member} depends on {name}"));
            }
        }
    }
    refuse(&complaints);
}

#[test]
fn pure_crates_forbid_unsafe_code() {
    let mut complaints = vec![];
    for lib in [
        "initiator/iscsi-client/src/lib.rs",
        "initiator/multipath/src/lib.rs",
        "lockmgr/src/lib.rs",
        "tests/kit/src/lib.rs",
        "src/lib.rs",
    ] {
        if !read(Path::new(lib)).contains("#![forbid(unsafe_code)]") {
            complaints.push(format!("{lib} does not forbid unsafe code"));
        }
    }
    refuse(&complaints);
}

#[test]
fn unsafe_code_has_one_address() {
    let mut complaints = vec![];
    for path in tracked(&[".rs"]) {
        if path.starts_with("ublk-dev/src/sys") || path.starts_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in code_lines(&read(&path)) {
            // Words in a string literal are no code: every second piece between quotes.
            let code: Vec<&str> = line.split('"').step_by(2).collect();
            let code = code.join(" ");
            let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.into_iter().any(|word| word == "unsafe") {
                complaints.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    refuse(&complaints);
}

#[test]
fn nothing_is_left_behind() {
    // Spelled in two halves, so that this file does not find itself.
    let marks = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ig", "nore"),
        concat!("dbg", "!("),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut complaints = vec![];
    for path in tracked(&[".rs", ".sh", ".toml"]) {
        for (number, line) in read(&path).lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                complaints.push(format!("{}:{}: {mark}", path.display(), number + 1));
            }
        }
    }
    refuse(&complaints);
}

#[test]
fn every_module_tells_its_story() {
    let mut complaints = vec![];
    for path in tracked(&[".rs"]) {
        let text = read(&path);
        let first = text
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("");
        if !first.starts_with("//!") && !first.starts_with("#!") {
            complaints.push(format!("{} opens without a `//!` story", path.display()));
        }
    }
    refuse(&complaints);
}

#[test]
fn files_hold_one_noun() {
    // Tests and generated or hand-copied definitions may be long; a long file of code holds a second noun.
    let mut complaints = vec![];
    for path in tracked(&[".rs"]) {
        let name = path.to_string_lossy().into_owned();
        if name.ends_with("tests.rs") || name.contains("/tests/") || name.contains("libublk-rs-sys")
        {
            continue;
        }
        let text = read(&path);
        let code = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .count();
        if code > 700 {
            complaints.push(format!("{name}: {code} lines before its tests"));
        }
    }
    refuse(&complaints);
}

#[test]
fn dependencies_are_those_that_deny_toml_allows() {
    let rules: toml::Table = read(Path::new("deny.toml"))
        .parse()
        .expect("deny.toml is TOML");
    let allowed: Vec<&str> = rules["licenses"]["allow"]
        .as_array()
        .expect("licenses.allow is a list")
        .iter()
        .map(|licence| licence.as_str().expect("a licence is a string"))
        .collect();
    let banned: Vec<&str> = rules["bans"]["deny"]
        .as_array()
        .expect("bans.deny is a list")
        .iter()
        .map(|ban| ban["crate"].as_str().expect("a ban names a crate"))
        .collect();
    // The tree of what is really built here; metadata would list optional parts of other platforms too.
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--prefix=none",
            "--no-dedupe",
        ])
        .args(["--edges=normal,build,dev", "--format={p}|{l}"])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).expect("cargo tree prints UTF-8");
    let packages: BTreeSet<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
    assert!(packages.len() > 10, "only {} packages", packages.len());
    let mut complaints = vec![];
    for package in packages {
        let (id, licence) = package.split_once('|').expect("a package and its licence");
        let name = id.split(' ').next().expect("a package has a name");
        // Packages of the one registry show no source; ours show a path.
        if id.contains("://") {
            complaints.push(format!("{id} comes from elsewhere"));
        }
        if banned.contains(&name) {
            complaints.push(format!("{name} is banned"));
        }
        // "A OR B": one allowed alternative is enough; "A AND B": all are needed.
        let known = |one: &str| allowed.contains(&one.trim_matches(['(', ')', ' ', '+', '*']));
        let fits = licence
            .split(" OR ")
            .any(|one| one.split(" AND ").all(|part| part.split('/').any(known)));
        if !fits {
            complaints.push(format!("{name} is licensed {licence:?}"));
        }
    }
    refuse(&complaints);
}

#[test]
fn every_test_that_the_matrix_names_exists() {
    let mut complaints = vec![];
    let mut named = 0;
    let matrix = read(Path::new("tests/kit/UNH-IOL.md"));
    for line in matrix.lines().filter(|line| line.starts_with("| ")) {
        let words = line.split('`').skip(1).step_by(2);
        for (path, test) in words.filter_map(|word| word.split_once("::")) {
            named += 1;
            let text = fs::read_to_string(root().join(path)).unwrap_or_default();
            if !text.contains(&format!("#[test]\nfn {test}() {{"))
                && !text.contains(&format!("    #[test]\n    fn {test}() {{"))
            {
                complaints.push(format!("{path} has no test {test}"));
            }
        }
    }
    assert!(named > 40, "only {named} tests are named");
    refuse(&complaints);
}
