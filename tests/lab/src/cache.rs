//! Built things under `target/lab/`: one directory per thing, its name ending in a hash of its inputs.
//!
//! A directory either does not exist or is complete: it is built under another name and renamed. A file
//! lock per kind of thing keeps two labs on one machine from building the same thing twice.

use crate::command::say;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How many generations of one thing stay on disk: the current one, and the one another branch may use.
const KEEP: usize = 2;

/// Where the lab keeps what it builds and what runs leave behind.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The repository.
    pub repo: PathBuf,
    /// `target/lab`, or `SANBLK_LAB_DIR` (to share one cache between work trees).
    pub dir: PathBuf,
    /// `tests/lab/guest`: library and scenarios.
    pub guest: PathBuf,
}

impl Lab {
    /// Finds the repository and creates the lab's directory.
    pub fn open() -> Result<Lab> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let repo = manifest.join("../..").canonicalize()?;
        let dir = match std::env::var_os("SANBLK_LAB_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => target_dir(&repo).join("lab"),
        };
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        Ok(Lab {
            guest: manifest.join("guest").canonicalize()?,
            repo,
            dir,
        })
    }

    /// Returns the directory `NAME-HASH`, building it with `build` when it is not there.
    pub fn cached<K: Hash>(
        &self,
        name: &str,
        inputs: K,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        inputs.hash(&mut hasher);
        let done = self.dir.join(format!("{name}-{:016x}", hasher.finish()));
        if done.is_dir() {
            return Ok(done);
        }
        let _lock = self.lock(name)?;
        if done.is_dir() {
            return Ok(done);
        }
        say(format_args!("building {name}"));
        let start = Instant::now();
        let partial = self.dir.join(format!("{name}.partial"));
        remove(&partial)?;
        fs::create_dir_all(&partial)?;
        build(&partial).with_context(|| format!("building {name}"))?;
        fs::rename(&partial, &done)?;
        say(format_args!(
            "built {name} in {:.1} s",
            start.elapsed().as_secs_f32()
        ));
        self.prune(name)?;
        Ok(done)
    }

    /// Holds the lock `NAME` until the returned file is dropped.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.dir.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        if file.try_lock().is_err() {
            say(format_args!("waiting for another lab that builds {name}"));
            file.lock()?;
        }
        Ok(file)
    }

    fn prune(&self, name: &str) -> Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let hash = file_name
                .strip_prefix(name)
                .and_then(|r| r.strip_prefix('-'));
            if hash.is_some_and(|h| h.len() == 16 && h.bytes().all(|b| b.is_ascii_hexdigit())) {
                found.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        found.sort();
        let excess = found.len().saturating_sub(KEEP);
        found[..excess]
            .iter()
            .try_for_each(|(_, path)| remove(path))
    }
}

/// Cargo's target directory for this repository.
pub fn target_dir(repo: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => repo.join(dir),
        None => repo.join("target"),
    }
}

/// Removes a directory tree; one that is not there is fine.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
