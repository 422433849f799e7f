//! Reads the images, decodings and outputs under `tests/fixtures`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn text(file: &str) -> String {
    fs::read_to_string(dir().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn names_ending(ending: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir())
        .expect("the fixtures are there")
        .filter_map(|entry| {
            let name = entry.expect("a directory entry").file_name();
            Some(name.to_str()?.strip_suffix(ending)?.to_owned())
        })
        .collect();
    names.sort();
    names
}

/// One device with all that is known about it.
pub struct Fixture {
    /// The step of its story.
    pub name: String,
    /// The whole device.
    pub bytes: Vec<u8>,
}

impl Fixture {
    /// One by its name.
    pub fn load(name: &str) -> Fixture {
        let sectors: HashMap<String, Vec<u8>> = text("sectors.txt")
            .lines()
            .map(|line| {
                let (id, hex) = line.split_once(' ').expect("an id and its bytes");
                (id.to_owned(), unhex(hex))
            })
            .collect();
        let image = text(&format!("{name}.image"));
        let mut lines = image.lines();
        let size = lines.next().and_then(|line| line.strip_prefix("size "));
        let mut bytes = vec![0; size.expect("a size").parse().expect("a number")];
        let stride = if name.starts_with("s4k") { 4096 } else { 512 };
        for line in lines {
            let mut words = line.split(' ');
            let at: usize = words.next().expect("an offset").parse().expect("a number");
            let content = &sectors[words.next().expect("a sector")];
            let times: usize = words
                .next()
                .map_or(1, |n| n[1..].parse().expect("a number"));
            for i in 0..times {
                let at = at + i * stride;
                bytes[at..at + content.len()].copy_from_slice(content);
            }
        }
        Fixture {
            name: name.to_owned(),
            bytes,
        }
    }

    /// All of them, one after the other.
    pub fn all() -> impl Iterator<Item = Fixture> {
        let names = names_ending(".image");
        assert_eq!(names.len(), 48, "an image is missing");
        names.into_iter().map(|name| Fixture::load(&name))
    }

    /// Every structure as the other decoder reads it.
    pub fn expected(&self) -> Vec<Value> {
        expected(&self.name)
    }

    /// What the real tool printed: each command with its lines.
    pub fn outputs(&self) -> Vec<(String, Vec<String>)> {
        let text = text(&format!("{}.sanlock.txt", self.name));
        let mut outputs: Vec<(String, Vec<String>)> = vec![];
        for line in text.lines() {
            match (line.strip_prefix("$ "), outputs.last_mut()) {
                (Some(command), _) => outputs.push((command.to_owned(), vec![])),
                (None, Some((_, lines))) if !line.is_empty() => lines.push(line.to_owned()),
                (None, _) => {}
            }
        }
        outputs
    }
}

/// The decoding of one device.
pub fn expected(name: &str) -> Vec<Value> {
    serde_json::from_str(&text(&format!("{name}.expected.json"))).expect("a list of structures")
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex digits"))
        .collect()
}
