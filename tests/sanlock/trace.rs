//! Reads the recordings under `tests/sanlock/traces`; their README says what a line means.

use std::fs;
use std::path::{Path, PathBuf};

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// The client.
    Client,
    /// The daemon.
    Daemon,
}

/// Bytes of one system call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Which connection of the client.
    pub connection: u32,
    /// Who sends.
    pub from: From,
    /// The bytes; those that the recording does not have are zero.
    pub bytes: Vec<u8>,
    /// How many at the end the recording does not have.
    pub unknown: usize,
}

/// A line of a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// What lvmlockd was asked for.
    Step(String),
    /// Bytes.
    Packet(Packet),
}

/// One recording.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Directory and name.
    pub name: String,
    /// The command and what it printed, if there was one.
    pub printed: Vec<String>,
    /// What was said, in order.
    pub lines: Vec<Line>,
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sanlock/traces")
}

impl Trace {
    /// One by its name, as `sanlock-3.8.5/gets`.
    pub fn load(name: &str) -> Trace {
        let path = dir().join(format!("{name}.trace"));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (mut printed, mut lines) = (vec![], vec![]);
        for line in text.lines() {
            match line.split_at(1) {
                ("|", rest) => printed.push(rest.strip_prefix(' ').unwrap_or(rest).to_owned()),
                ("#", rest) => lines.push(Line::Step(rest.trim_start().to_owned())),
                (sign, rest) => lines.push(Line::Packet(packet(sign, rest.trim_start()))),
            }
        }
        Trace {
            name: name.to_owned(),
            printed,
            lines,
        }
    }

    /// All of them, by their names.
    pub fn all() -> Vec<Trace> {
        let mut names = vec![];
        for program in fs::read_dir(dir()).expect("the recordings are there") {
            let program = program.expect("an entry").path();
            if !program.is_dir() {
                continue;
            }
            for file in fs::read_dir(&program).expect("a directory") {
                let path = file.expect("an entry").path();
                let name = path.strip_prefix(dir()).expect("it is below");
                let name = name.to_str().expect("names are UTF-8");
                let name = name.strip_suffix(".trace").expect("a recording");
                names.push(name.to_owned());
            }
        }
        names.sort();
        assert_eq!(names.len(), 69, "a recording is missing");
        names.iter().map(|name| Trace::load(name)).collect()
    }

    /// What was said, without the steps.
    pub fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.lines.iter().filter_map(|line| match line {
            Line::Packet(packet) => Some(packet),
            Line::Step(_) => None,
        })
    }

    /// The numbers of its connections.
    pub fn connections(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.packets().map(|packet| packet.connection).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

fn packet(sign: &str, rest: &str) -> Packet {
    let (connection, tokens) = rest.split_once(' ').expect("a connection and bytes");
    let (bytes, unknown) = bytes(tokens);
    Packet {
        connection: connection.parse().expect("a number"),
        from: match sign {
            ">" => From::Client,
            "<" => From::Daemon,
            _ => panic!("a line begins with {sign:?}"),
        },
        bytes,
        unknown,
    }
}

fn bytes(mut tokens: &str) -> (Vec<u8>, usize) {
    let (mut bytes, mut unknown) = (vec![], 0);
    while let Some(first) = tokens.chars().next() {
        let body = &tokens[1..];
        let rest = match first {
            ' ' => body,
            '"' => {
                let (text, rest) = body.split_once('"').expect("a quote at the end");
                bytes.extend(text.as_bytes());
                rest
            }
            '{' => {
                let (fields, rest) = body.split_once('}').expect("a brace at the end");
                bytes.extend(header(fields));
                rest
            }
            _ => {
                let (word, rest) = tokens.split_once(' ').unwrap_or((tokens, ""));
                let number = || word[1..].parse::<usize>().expect("a number");
                match first {
                    '*' => bytes.resize(bytes.len() + number(), 0),
                    '?' => {
                        unknown = number();
                        bytes.resize(bytes.len() + unknown, 0);
                    }
                    _ => bytes.extend(unhex(word)),
                }
                rest
            }
        };
        tokens = rest;
    }
    (bytes, unknown)
}

fn header(fields: &str) -> Vec<u8> {
    let numbers: Vec<i64> = fields
        .split(' ')
        .map(|word| match word.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).expect("a number"),
            None => word.parse().expect("a number"),
        })
        .collect();
    let [command, flags, length, data, data2] = numbers[..] else {
        panic!("a header has five numbers: {fields}");
    };
    let words = [0x0428_2010, 1, command, flags, length, 0, data, data2];
    // The recordings are of machines of the x86-64 kind.
    let words = words.map(|word| (word as u32).to_le_bytes());
    words.concat()
}

fn unhex(word: &str) -> Vec<u8> {
    let pairs = word.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = str::from_utf8(pair).expect("ASCII");
            u8::from_str_radix(pair, 16).expect("hexadecimal")
        })
        .collect()
}
