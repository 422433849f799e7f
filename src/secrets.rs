//! CHAP names and secrets, from a file that root alone can read. They never come from a command line, and appear in
//! no log, state, message or JSON: every error here names a key or a line, never a value.
//!
//! ```toml
//! # /etc/sanblk/chap.toml, mode 0600
//! username = "host1"                  # CHAP_N; for every target that has no table of its own
//! secret = "at least 12 bytes"
//!
//! [target."iqn.2003-01.org.linux-iscsi.store:t1"]
//! username = "host1"
//! secret = "another secret"
//! target-username = "store"           # optional: which CHAP_N the target must show
//! target-secret = "what it must know" # mutual CHAP: the target must prove itself
//! ```

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use iscsi_client::login::{Credentials, MutualCredentials};

use crate::config::line_of;
use crate::failure::{Failure, Kind};

/// RFC 7143, 9.2.1 asks for 96 bits; several targets refuse shorter secrets.
const SECRET_MIN: usize = 12;
/// A secrets file is a page of text, not a disk.
const FILE_MAX: u64 = 256 * 1024;

const KEYS: [&str; 4] = ["username", "secret", "target-username", "target-secret"];

/// The credentials for `target` in `path`. `None` where the file has none for it; a discovery session has the empty
/// target name.
///
/// # Errors
/// A file that others can read, that cannot be read, or that breaks the format.
pub fn credentials(path: &Path, target: &str) -> Result<Option<Credentials>, Failure> {
    let text = read(path)?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        // toml's own message quotes the line, and the line may be the secret.
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        wrong(path, &format!("line {line} is not valid TOML"))
    })?;
    let known = |key: &str| KEYS.contains(&key) || key == "target";
    if let Some(key) = table.keys().find(|key| !known(key)) {
        return Err(wrong(path, &format!("the key {key:?} is not known")));
    }
    let targets = match table.get("target") {
        None => None,
        Some(toml::Value::Table(targets)) => Some(targets),
        Some(_) => return Err(wrong(path, "`target` must be a table: [target.\"IQN\"]")),
    };
    match targets.and_then(|targets| targets.get(target)) {
        Some(toml::Value::Table(own)) => {
            if let Some(key) = own.keys().find(|key| !KEYS.contains(&key.as_str())) {
                return Err(wrong(path, &format!("the key {key:?} is not known")));
            }
            section(path, own)
        }
        Some(_) => Err(wrong(path, &format!("[target.{target:?}] must be a table"))),
        None => section(path, &table),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Kind::Usage,
            format!("cannot read the CHAP file {}: {error}", path.display()),
            "check the path; the daemon reads it as root",
        )
    };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file: nobody can swap it between the check and the read.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(wrong(path, "it is not a regular file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "the CHAP file {} can be read or written by others (mode {:04o})",
                path.display(),
                metadata.mode() & 0o7777
            ),
            format!("chmod 600 {}", path.display()),
        ));
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "the CHAP file {} belongs to user {}",
                path.display(),
                metadata.uid()
            ),
            format!("chown root {}", path.display()),
        ));
    }
    let mut text = String::new();
    file.take(FILE_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

fn section(path: &Path, table: &toml::Table) -> Result<Option<Credentials>, Failure> {
    let text = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(toml::Value::String(value)) if !value.is_empty() => Ok(Some(value.clone())),
        Some(_) => Err(wrong(
            path,
            &format!("the value of `{key}` must be a text in quotes"),
        )),
    };
    let (name, secret) = (text("username")?, text("secret")?);
    let (mutual_name, mutual_secret) = (text("target-username")?, text("target-secret")?);
    let (name, secret) = match (name, secret) {
        (None, None) if mutual_name.is_none() && mutual_secret.is_none() => return Ok(None),
        (Some(name), Some(secret)) => (name, secret),
        _ => return Err(wrong(path, "`username` and `secret` belong together")),
    };
    for (key, secret) in [
        ("secret", Some(&secret)),
        ("target-secret", mutual_secret.as_ref()),
    ] {
        if secret.is_some_and(|secret| secret.len() < SECRET_MIN) {
            return Err(wrong(
                path,
                &format!("`{key}` is shorter than {SECRET_MIN} bytes"),
            ));
        }
    }
    let mutual = match mutual_secret {
        None if mutual_name.is_some() => {
            return Err(wrong(path, "`target-username` needs `target-secret`"));
        }
        None => None,
        Some(mutual) if mutual == secret => {
            return Err(wrong(
                path,
                "`secret` and `target-secret` are equal, which lets an attacker reflect our own answer",
            ));
        }
        Some(mutual) => Some(MutualCredentials {
            name: mutual_name,
            secret: mutual.into_bytes(),
        }),
    };
    Ok(Some(Credentials {
        name,
        secret: secret.into_bytes(),
        mutual,
        md5_only: false,
    }))
}

fn wrong(path: &Path, why: &str) -> Failure {
    Failure::new(
        Kind::Usage,
        format!("CHAP file {}: {why}", path.display()),
        "the format is username = \"…\", secret = \"…\" (see sanblk attach --help)",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_target_of_its_own_wins() {
        let file = file(
            "username = 'all'\nsecret = 'general-secret'\n[target.'iqn.2020-01.x:t']\nusername = 'one'\n\
             secret = 'special-secret'\ntarget-secret = 'mutual-secret'\n",
            0o600,
        );
        let own = credentials(file.path(), "iqn.2020-01.x:t")
            .unwrap()
            .unwrap();
        assert_eq!(
            (own.name.as_str(), own.secret.as_slice()),
            ("one", b"special-secret".as_slice())
        );
        assert_eq!(own.mutual.unwrap().secret, b"mutual-secret");
        let other = credentials(file.path(), "iqn.2020-01.x:u")
            .unwrap()
            .unwrap();
        assert_eq!(other.name, "all");
        assert!(other.mutual.is_none());
    }

    #[test]
    fn nothing_for_this_target() {
        let file = file(
            "[target.'a']\nusername = 'one'\nsecret = 'special-secret'\n",
            0o400,
        );
        assert!(credentials(file.path(), "b").unwrap().is_none());
    }

    #[test]
    fn readable_by_others() {
        for mode in [0o640, 0o604, 0o660, 0o644] {
            let file = file("username = 'a'\nsecret = 'general-secret'\n", mode);
            let failure = credentials(file.path(), "t").unwrap_err();
            assert_eq!(failure.kind, Kind::Usage);
            assert!(failure.next.starts_with("chmod 600"), "{failure}");
        }
    }

    #[test]
    fn no_error_shows_a_secret() {
        for text in [
            "username = 'a'\nsecret = 's3cr3t-s3cr3t\n",
            "secret = 's3cr3t-s3cr3t'\n",
            "username = 's3cr3t-name'\nsecret = 31337\n",
            "username = 'a'\nsecret = 's3cr3t'\n",
            "username = 'a'\nsecret = 's3cr3t-s3cr3t'\ntarget-secret = 's3cr3t-s3cr3t'\n",
            "username = 'a'\nsecret = 's3cr3t-s3cr3t'\ntarget-username = 'b'\n",
            "username = 'a'\nsecret = 's3cr3t-s3cr3t'\nport = 4\n",
            "target = 3\n",
        ] {
            let file = file(text, 0o600);
            let failure = credentials(file.path(), "t").unwrap_err();
            let shown = format!("{failure} {failure:?}");
            assert!(
                !shown.contains("s3cr3t") && !shown.contains("31337"),
                "{shown}"
            );
        }
    }
}
