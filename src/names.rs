//! Which iSCSI name we carry: flag, configuration, open-iscsi's, else one generated once and kept.
//!
//! A name that targets already know keeps their access lists working, so open-iscsi's comes before a new one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};
use crate::layout::Layout;

/// Where the name came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// `--initiator-name`.
    Flag,
    /// `initiator-name` in the configuration.
    Configuration,
    /// A file on this host.
    File(PathBuf),
    /// Just made, and kept in this file.
    Generated(PathBuf),
}

/// An iSCSI name that is not valid (RFC 7143, 4.2.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// Empty or longer than 223 bytes.
    Length,
    /// Does not begin with `iqn.`, `eui.` or `naa.`.
    Type,
    /// A character outside `a-z 0-9 - . :`.
    Character(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Length => f.write_str("an iSCSI name has 1 to 223 bytes"),
            NameError::Type => f.write_str("an iSCSI name begins with iqn., eui. or naa."),
            NameError::Character(c) => write!(f, "an iSCSI name cannot hold {c:?}"),
        }
    }
}

impl std::error::Error for NameError {}

/// Checks an iSCSI name.
///
/// # Errors
/// The rule that it breaks.
pub fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > 223 {
        return Err(NameError::Length);
    }
    if !["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| name.starts_with(kind))
    {
        return Err(NameError::Type);
    }
    // Upper case and underscores are outside the standard's alphabet, yet targets in the field use both.
    match name
        .chars()
        .find(|c| c.is_control() || c.is_whitespace() || "\"'\\=".contains(*c))
    {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

/// The name to carry, by the rule in the module's story.
///
/// # Errors
/// A name that is not valid, or a file that cannot be read or written.
pub fn initiator_name(
    layout: &Layout,
    flag: Option<&str>,
    configured: Option<&str>,
) -> Result<(String, Source), Failure> {
    let given = flag
        .map(|name| (name, Source::Flag))
        .or(configured.map(|name| (name, Source::Configuration)));
    if let Some((name, source)) = given {
        return valid(name, source);
    }
    for path in [layout.open_iscsi_name(), layout.generated_name()] {
        if let Some(name) = read(&path)? {
            return valid(&name, Source::File(path));
        }
    }
    let path = layout.generated_name();
    let name = generate()?;
    keep(&path, &name).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!(
                "cannot keep the generated initiator name in {}: {error}",
                path.display()
            ),
            "give one with --initiator-name, or set initiator-name in the configuration",
        )
    })?;
    Ok((name, Source::Generated(path)))
}

fn valid(name: &str, source: Source) -> Result<(String, Source), Failure> {
    match check(name) {
        Ok(()) => Ok((name.to_owned(), source)),
        Err(error) => {
            let place = match &source {
                Source::Flag => "--initiator-name".to_owned(),
                Source::Configuration => "initiator-name in the configuration".to_owned(),
                Source::File(path) | Source::Generated(path) => path.display().to_string(),
            };
            Err(Failure::new(
                Kind::Usage,
                format!("initiator name {name:?} from {place}: {error}"),
                "use the name that the target's access list has, such as iqn.1993-08.org.debian:01:abc",
            ))
        }
    }
}

/// The `InitiatorName=` line of a file, if the file and the line exist.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "cannot read the initiator name from {}: {error}",
                    path.display()
                ),
                "run as root, or give one with --initiator-name",
            ));
        }
    };
    Ok(text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("InitiatorName="))
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty()))
}

fn generate() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    crate::host::random(&mut bytes)?;
    // `internal` is the domain that ICANN reserved for private use in August 2024: nobody else's name.
    Ok(format!(
        "iqn.2024-08.internal.sanblk:{:016x}",
        u64::from_be_bytes(bytes)
    ))
}

fn keep(path: &Path, name: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    crate::host::write_durably(path, format!("InitiatorName={name}\n").as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::below(directory.path().to_owned());
        (directory, layout)
    }

    #[test]
    fn generated_once_and_kept() {
        let (_directory, layout) = layout();
        let (name, source) = initiator_name(&layout, None, None).unwrap();
        assert_eq!(source, Source::Generated(layout.generated_name()));
        assert_eq!(check(&name), Ok(()));
        let again = initiator_name(&layout, None, None).unwrap();
        assert_eq!(again, (name, Source::File(layout.generated_name())));
    }

    #[test]
    fn order_of_sources() {
        let (_directory, layout) = layout();
        let file = layout.open_iscsi_name();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        // Debian's template before open-iscsi's first start: no name yet.
        std::fs::write(&file, "## DO NOT EDIT\nGenerateName=yes\n").unwrap();
        let (_, source) = initiator_name(&layout, None, None).unwrap();
        assert_eq!(source, Source::Generated(layout.generated_name()));
        std::fs::write(
            &file,
            "# comment\nInitiatorName=iqn.1993-08.org.debian:01:ab\n",
        )
        .unwrap();
        let (name, source) = initiator_name(&layout, None, None).unwrap();
        assert_eq!(
            (name.as_str(), source),
            ("iqn.1993-08.org.debian:01:ab", Source::File(file))
        );
        let (name, source) = initiator_name(&layout, None, Some("iqn.2020-01.c:c")).unwrap();
        assert_eq!(
            (name.as_str(), source),
            ("iqn.2020-01.c:c", Source::Configuration)
        );
        let (name, source) =
            initiator_name(&layout, Some("iqn.2020-01.f:f"), Some("iqn.2020-01.c:c")).unwrap();
        assert_eq!((name.as_str(), source), ("iqn.2020-01.f:f", Source::Flag));
    }

    #[test]
    fn bad_names() {
        assert_eq!(check(""), Err(NameError::Length));
        assert_eq!(
            check(&format!("iqn.{}", "a".repeat(220))),
            Err(NameError::Length)
        );
        assert_eq!(check("host1"), Err(NameError::Type));
        assert_eq!(check("iqn.2020-01.x:a b"), Err(NameError::Character(' ')));
        let (_directory, layout) = layout();
        let failure = initiator_name(&layout, Some("host1"), None).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.what.contains("--initiator-name"), "{failure}");
    }
}
