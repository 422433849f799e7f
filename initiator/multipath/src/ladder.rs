//! How a dead session is proven dead: the ladder of proofs, best first. The volume climbs it (`volume/fencing.rs`,
//! `volume/hold.rs`); what an unproven copy forbids is in [`crate::fence`]. Sources: SCHEDULING section 9, PROTOCOL
//! sections 10 and 11.
//!
//! A copy of a write hides in one of four places, and each has its own end:
//!
//! | place ([`Hideout`]) | its end |
//! |---|---|
//! | the send queue of our own kernel | the socket is reset (linger 0), and the runtime says so |
//! | the network | frames die of age: [`TRANSIT`] |
//! | the target's side of the dead connection | a login with the same ISID; else the target's own patience with a silent peer |
//! | the target's queue and backend | the command ends; a target says so itself, or its time limit is over |
//!
//! 1. **Reinstatement through a sibling**: a login with the dead session's ISID through another portal of the same portal
//!    group. It ends the old connection (RFC 7143, 6.3.5), so nothing arrives late. TEST UNIT READY until GOOD
//!    and one ORDERED TEST UNIT READY then wait for what had been handed to the logical unit, on targets whose login
//!    did not wait by itself. LIO answers the login when the old session's commands are over, and is asked nothing more.
//! 2. **The path's own return**: the same login through the path's own portal, with the same commands after it.
//! 3. **The timed hold**, only while no sibling portal could do it. Our socket was closed hard, so from [`TRANSIT`]
//!    later on no byte of the dead session reaches the target. A target that hears nothing gives up the connection
//!    within [`Terms::dead_peer`]; what it had read by then ends within [`Terms::backend`]. Then TEST UNIT READY and
//!    an ORDERED one through a living path have the last word: a target that is frozen as a whole does not answer them,
//!    and a shared task set makes the ORDERED one wait for whatever is left.
//!
//! *What the hold proves* is the first row of the table alone. *What it assumes* is the rest: that nobody has told the
//! target to be more patient than these numbers, and that its backend ends or fails a command within
//! [`Terms::backend`]. A login of that session or a last word that hangs shows that the backend is stuck: then the
//! assumption is wrong for now, and the hold begins anew.
//!
//! **TST=001b** in the control mode page says that each nexus has a task set of its own: an ORDERED command of the new
//! session waits for nothing of the old one. Unless the target is one whose login waits, a login then ends the
//! connection only, and [`Terms::after_login`] is waited for on top of it. The same for SPDK, which has no notion of
//! ordered commands.
//!
//! **LOGICAL UNIT RESET**, if the operator allows it (it aborts the commands of every host): the target's own word that
//! no command it holds is left, which is better than waiting for [`Terms::backend`]. It is sent only when nothing can
//! arrive any more: after the login in the case of TST=001b or SPDK, after [`Terms::dead_peer`] in the hold. Alone it
//! would prove nothing about a command that the target has not read yet. Refused or unanswered, it leaves the wait
//! as it was.
//!
//! Who the target is, is a guess from INQUIRY. A wrong guess may only cost time: it lengthens a wait or adds
//! one. Only LIO goes without commands after the login ([`TargetKind::login_is_proof`]): whoever calls itself LIO-ORG is taken at
//! its word, that its login waits.

use core::time::Duration;

use iscsi_client::time::Instant;

use crate::drain::LastWord;
use crate::identity::{Identity, TaskSet};

/// How long a frame may be on its way after the socket that sent it is gone. IEEE 802.1D lets a bridge keep a
/// frame for 4 s at the very most; a network card whose queue stands still is reset after 5 s.
pub const TRANSIT: Duration = Duration::from_secs(10);

/// The longest patience with a silent peer that LIO can be told: ping after 60 s, 60 s for the answer (15 s and 30 s by
/// default). SCST and SPDK: 60 s, CTL: 5 s by default.
const DEAD_PEER: Duration = Duration::from_secs(120);

/// tgt never pings: TCP keepalive ends the connection, after 1800 s and six probes 300 s apart.
const DEAD_PEER_TGT: Duration = Duration::from_secs(3600);

/// What Linux grants a command of a disk behind the target with all retries: six times 30 s.
const BACKEND: Duration = Duration::from_secs(180);

/// Where a copy of a write may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hideout {
    /// In the target's queue or backend: its connection is closed on the target's side too, since then.
    Backend {
        /// When the target said so by a login.
        since: Instant,
    },
    /// Anywhere but in our own kernel.
    Target {
        /// When our socket was closed hard, or when the target last showed that its backend is stuck.
        since: Instant,
    },
    /// Also in our own kernel: the socket's end is not reported yet.
    Kernel,
    /// Nothing is known of its socket: an earlier run of the daemon sent it.
    Unknown,
}

/// Which target this seems to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "names of products")]
pub enum TargetKind {
    Lio,
    Scst,
    Ctl,
    Tgt,
    Spdk,
    Unknown,
}

impl TargetKind {
    /// By vendor identification.
    pub fn of(identity: &Identity) -> TargetKind {
        TargetKind::of_vendor(&identity.vendor)
    }

    /// By the name in INQUIRY.
    pub fn of_vendor(vendor: &str) -> TargetKind {
        match vendor {
            "LIO-ORG" => TargetKind::Lio,
            "SCST_FIO" | "SCST_BIO" => TargetKind::Scst,
            "FREEBSD" | "FreeBSD" => TargetKind::Ctl,
            "IET" => TargetKind::Tgt,
            // SPDK presents every bdev with its author's name.
            "INTEL" => TargetKind::Spdk,
            _ => TargetKind::Unknown,
        }
    }

    /// What ends the proof. An ORDERED command hangs LIO ([`crate::drain`] tells why), whose login waits.
    pub fn last_word(self) -> LastWord {
        match self {
            TargetKind::Lio => LastWord::Omitted,
            _ => LastWord::Ordered,
        }
    }

    /// Whether the answer to a reinstating login is proof enough: nothing has to be asked after it.
    pub fn login_is_proof(self) -> bool {
        self == TargetKind::Lio
    }

    /// Whether no command of a reinstating login is executed before the old session's are over (PROTOCOL section 11).
    fn waits_at_login(self) -> bool {
        matches!(self, TargetKind::Lio | TargetKind::Scst | TargetKind::Ctl)
    }
}

/// What a rung costs on this target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// After a reinstating login and its ORDERED command: zero where these two are the proof.
    pub after_login: Duration,
    /// Until the target has given up a connection whose peer is silent.
    pub dead_peer: Duration,
    /// Until the target's backend has ended what it had.
    pub backend: Duration,
}

impl Terms {
    /// Of a logical unit that said this of itself.
    pub fn of(identity: &Identity, task_set: TaskSet) -> Terms {
        let kind = TargetKind::of(identity);
        let ordered_waits = task_set == TaskSet::Shared && kind != TargetKind::Spdk;
        Terms {
            after_login: match ordered_waits || kind.waits_at_login() {
                true => Duration::ZERO,
                false => BACKEND,
            },
            dead_peer: match kind {
                TargetKind::Tgt => DEAD_PEER_TGT,
                _ => DEAD_PEER,
            },
            backend: BACKEND,
        }
    }

    /// The whole timed hold, from the hard close on.
    pub fn hold(&self) -> Duration {
        TRANSIT + self.dead_peer + self.backend
    }

    /// From when on nothing of the dead session can arrive at the target's backend. `None`: no time is long enough.
    pub fn no_arrival_after(&self, hideout: Hideout) -> Option<Instant> {
        match hideout {
            Hideout::Backend { since } => Some(since),
            Hideout::Target { since } => Some(since + TRANSIT + self.dead_peer),
            Hideout::Kernel | Hideout::Unknown => None,
        }
    }

    /// From when on nothing of the dead session is left. `None`: no time is long enough.
    pub fn over_after(&self, hideout: Hideout) -> Option<Instant> {
        Some(self.no_arrival_after(hideout)? + self.backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(vendor: &str) -> Identity {
        Identity {
            wwid: "36001405aaaa".into(),
            serial: "aaaa".into(),
            vendor: vendor.into(),
            product: "disk".into(),
            blocks: 2048,
            block_len: 512,
        }
    }

    #[test]
    fn who_waits_how_long() {
        let table = [
            ("LIO-ORG", TaskSet::Shared, 0, 310),
            ("LIO-ORG", TaskSet::PerNexus, 0, 310),
            ("SCST_FIO", TaskSet::PerNexus, 0, 310),
            ("SCST_BIO", TaskSet::PerNexus, 0, 310),
            ("FREEBSD", TaskSet::PerNexus, 0, 310),
            ("IET", TaskSet::Shared, 0, 3790),
            ("IET", TaskSet::PerNexus, 180, 3790),
            ("INTEL", TaskSet::Shared, 180, 310),
            ("INTEL", TaskSet::PerNexus, 180, 310),
            ("NETAPP", TaskSet::Shared, 0, 310),
            ("NETAPP", TaskSet::PerNexus, 180, 310),
        ];
        for (vendor, task_set, after_login, hold) in table {
            let terms = Terms::of(&identity(vendor), task_set);
            let seconds = (terms.after_login.as_secs(), terms.hold().as_secs());
            assert_eq!(seconds, (after_login, hold), "{vendor} {task_set:?}");
        }
    }

    #[test]
    fn no_guess_asks_less_than_of_a_stranger() {
        let stranger = Terms::of(&identity("?"), TaskSet::Shared);
        for vendor in ["LIO-ORG", "SCST_FIO", "FREEBSD", "IET", "INTEL"] {
            let terms = Terms::of(&identity(vendor), TaskSet::Shared);
            assert!(terms.after_login >= stranger.after_login, "{vendor}");
            assert!(terms.dead_peer >= stranger.dead_peer, "{vendor}");
            assert!(terms.backend >= stranger.backend, "{vendor}");
        }
    }

    #[test]
    fn each_hideout_has_its_end() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let terms = Terms::of(&identity("LIO-ORG"), TaskSet::Shared);
        let since = at(1000);
        let table = [
            (Hideout::Backend { since }, Some((1000, 1180))),
            (Hideout::Target { since }, Some((1130, 1310))),
            (Hideout::Kernel, None),
            (Hideout::Unknown, None),
        ];
        for (hideout, ends) in table {
            let ends = ends.map(|(arrival, over)| (at(arrival), at(over)));
            assert_eq!(
                terms.no_arrival_after(hideout),
                ends.map(|ends| ends.0),
                "{hideout:?}"
            );
            assert_eq!(terms.over_after(hideout), ends.map(|ends| ends.1));
        }
        // What is known least about is the last to be over.
        assert!(Hideout::Unknown > Hideout::Kernel);
        assert!(Hideout::Kernel > Hideout::Target { since: at(9999) });
        assert!(Hideout::Target { since: at(1) } > Hideout::Backend { since });
    }
}
