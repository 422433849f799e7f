//! What happens to a lockspace, in words: all of it for the log, and what tells how it stands for whoever listens as well.

use crossbeam_channel::Sender;
use lockmgr::ondisk::Name;
use lockmgr::time::Instant;
use lockmgr::{DiskId, LeaseId, Note};

use super::picture::why_lost;

/// How much it matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// A lease, taken and given as somebody asked: as often as they ask.
    Routine,
    /// How the lockspace stands.
    Standing,
    /// Something was lost, or may soon be.
    Alarm,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// When; `CLOCK_BOOTTIME`.
    pub at: Instant,
    /// How much it matters.
    pub weight: Weight,
    /// What: one sentence that names the lockspace.
    pub text: String,
}

/// Takes news to whoever listens.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// Device or file of the lockspace.
    pub device: String,
    /// WWID of the volume that carries it; empty if none does.
    pub wwid: String,
    /// Where they go, with this reporter's device and WWID. What finds no room is lost: nobody here waits.
    pub to: Sender<(String, String, News)>,
}

impl Reporter {
    /// Tells what is no routine.
    pub(super) fn tell(&self, news: News) {
        if news.weight > Weight::Routine {
            let told = (self.device.clone(), self.wwid.clone(), news);
            let _ = self.to.try_send(told);
        }
    }
}

impl News {
    /// What a note has to tell; `None` where who asked is told.
    pub(super) fn of(note: &Note, at: Instant, space: Name) -> Option<News> {
        let (weight, what) = words(note)?;
        let text = format!("lockspace {space}: {what}");
        Some(News { at, weight, text })
    }

    pub(super) fn log(&self) {
        match self.weight {
            Weight::Alarm => tracing::warn!("{}", self.text),
            Weight::Routine | Weight::Standing => tracing::info!("{}", self.text),
        }
    }
}

/// Where a lease lies. Elsewhere than the lockspace: which device that is, `sanblk lease status` says.
fn at(id: LeaseId) -> String {
    match id.disk() {
        DiskId::HOME => id.offset().to_string(),
        DiskId(number) => format!("{} of device {number}", id.offset()),
    }
}

fn words(note: &Note) -> Option<(Weight, String)> {
    use Weight::{Alarm, Routine, Standing};
    Some(match note {
        Note::Joined { generation } => (Standing, format!("joined, generation {generation}")),
        Note::JoinFailed(error) => (Standing, format!("not joined: {error:?}")),
        Note::Left => (Standing, "left".to_owned()),
        Note::RenewalLate => (
            Alarm,
            "not renewed for 6 io_timeouts: is its disk slow?".to_owned(),
        ),
        Note::Lost(why) => (Alarm, format!("LOST: {}", why_lost(*why))),
        Note::Rejoined { generation } => (
            Standing,
            format!("joined again, generation {generation}; winning its leases back"),
        ),
        Note::Restored => (Standing, "every lease was won back".to_owned()),
        Note::Refused => (
            Alarm,
            "LOST for good: nothing that it protects is written any more".to_owned(),
        ),
        Note::Acquired { id, mode, lver } => (
            Routine,
            format!("lease at {}: held {mode:?}, version {lver}", at(*id)),
        ),
        Note::Converted { id, mode, lver } => (
            Routine,
            format!("lease at {}: held {mode:?} now, version {lver}", at(*id)),
        ),
        Note::Released { id } => (Routine, format!("lease at {}: released", at(*id))),
        Note::Reclaimed { id } => (Routine, format!("lease at {}: won back", at(*id))),
        Note::ReclaimFailed { id, error } => {
            (Alarm, format!("lease at {}: LOST, {error:?}", at(*id)))
        }
        Note::LeaderLost { id, error } => (
            Alarm,
            format!(
                "lease at {}: let go without a word on disk, {error:?}",
                at(*id)
            ),
        ),
        Note::AskedToRelease { id, .. } => (
            Routine,
            format!("lease at {}: another host asks for it", at(*id)),
        ),
        Note::LeaveRefused
        | Note::Failed { .. }
        | Note::Lvb { .. }
        | Note::Asked { .. }
        | Note::Told { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use lockmgr::{LeaseId, Mode};

    use super::*;

    #[test]
    fn what_is_no_routine_is_told_and_nobody_waits() {
        let (to, told) = bounded(2);
        let reporter = Reporter {
            device: "/dev/ublkb0".to_owned(),
            wwid: "3600".to_owned(),
            to,
        };
        let space = Name::new("LS").expect("short");
        let (id, mode, lver) = (LeaseId(4096), Mode::Shared, 7);
        for note in [
            Note::Joined { generation: 3 },
            Note::Acquired { id, mode, lver },
            Note::LeaveRefused,
            Note::RenewalLate,
            Note::Left,
        ] {
            if let Some(news) = News::of(&note, Instant::from_nanos(5), space) {
                reporter.tell(news);
            }
        }
        let texts: Vec<String> = told.try_iter().map(|(_, _, news)| news.text).collect();
        assert_eq!(
            texts,
            [
                "lockspace LS: joined, generation 3",
                "lockspace LS: not renewed for 6 io_timeouts: is its disk slow?"
            ]
        );
    }
}
