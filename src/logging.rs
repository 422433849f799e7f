//! The daemon's log: to stderr (the journal) or a file of bounded size, through a bounded queue that drops.
//!
//! Nobody who serves IO may wait for a log: journald may itself be waiting for our disk. So lines go to a thread of
//! their own; when that is behind, lines are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;

/// Lines that may wait.
const LINES_MAX: usize = 4096;
/// A log file and its predecessor take at most twice this, in the memory of `/run`.
const FILE_MAX: u64 = 1 << 20;

/// Keeps the log running; dropped last, it writes what is left.
#[derive(Debug)]
pub struct Log {
    dropped: ErrorCounter,
    _guard: WorkerGuard,
}

impl Log {
    /// Starts to log to `file`, or to stderr.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(file: Option<&Path>, level: LevelFilter) -> io::Result<Log> {
        let (writer, guard) = match file {
            Some(path) => non_blocking(CappedFile::open(path)?),
            None => non_blocking(io::stderr()),
        };
        let dropped = writer.error_counter();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(writer)
            .with_max_level(level)
            .with_target(false)
            .finish();
        // A second daemon in one process exists only in tests, which keep the first one's log.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Ok(Log {
            dropped,
            _guard: guard,
        })
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }
}

fn non_blocking(writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(writer)
}

/// A file that is put aside when it is full; the one put aside before goes.
#[derive(Debug)]
struct CappedFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl CappedFile {
    fn open(path: &Path) -> io::Result<CappedFile> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let len = file.metadata()?.len();
        Ok(CappedFile {
            path: path.to_owned(),
            file,
            len,
        })
    }
}

impl Write for CappedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.len > 0 && self.len + bytes.len() as u64 > FILE_MAX {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            std::fs::rename(&self.path, aside)?;
            *self = CappedFile::open(&self.path)?;
        }
        let written = self.file.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daemon.log");
        let mut file = CappedFile::open(&path).unwrap();
        let line = [b'x'; 1000];
        for _ in 0..3000 {
            file.write_all(&line).unwrap();
        }
        let aside = directory.path().join("daemon.log.1");
        for path in [&path, &aside] {
            let len = std::fs::metadata(path).unwrap().len();
            assert!(len > 0 && len <= FILE_MAX, "{len}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
