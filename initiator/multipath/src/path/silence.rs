//! Is the path silent, and what does its silence mean? (SCHEDULING section 7)
//!
//! ```text
//!            30 ms without progress                100 ms without an acknowledgement,
//!   Good <--------------------------> Suspect ---> while another path was acknowledged: dead
//!            any progress
//! ```
//!
//! Two clocks, because two questions. *Progress* is a byte received, or an acknowledgement of more than our own probes:
//! without it, while anything is outstanding, the path is suspect, and new IO goes elsewhere. That is cheap, soon taken
//! back and may be wrong. *Life* is any acknowledgement at all: a target that does IO in its receive thread is silent
//! for as long as its disk, but its kernel acknowledges, and such a path is never given up before the command timeout.
//! So only the TCP statistics can call a path dead, and only while segments of ours are on the wire: a peer with a
//! closed window has acknowledged everything that was sent.
//!
//! | answers to probes | commands | TCP | other path | verdict |
//! |---|---|---|---|---|
//! | come | stuck | – | stuck | the logical unit is slow: nothing |
//! | come | stuck | – | completes | suspect; the command timeout decides |
//! | none | stuck | acknowledges | completes | suspect; the command timeout decides |
//! | none | stuck | silent | acknowledged | dead after 100 ms |
//! | none | stuck | silent | silent | dead after 5 s |
//! | none | stuck | silent | there is none | dead after 1 s |
//!
//! A probe leaves after half of the time to suspicion, so that a path that is only slow answers it and is not
//! suspected. A target that does IO in its receive thread soon leaves all pings unanswered, and no more may be sent;
//! yet its link may be cut then. So it gets a NOP-Out that wants no answer now and then.
//!
//! Nothing here sends, and no clock is read: the volume asks what is due.

use core::time::Duration;

use iscsi_client::time::Instant;

use crate::contract::{Dead, TcpProgress};

/// Shortest silence that makes a path suspect.
const SUSPECT_FLOOR: Duration = Duration::from_millis(30);
/// Longest silence that past gaps can excuse.
const GAP_MAX: Duration = Duration::from_millis(500);
/// Probes of a suspect path, and of those that bear witness against it, follow each other so.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(50);
/// Where no further ping may be sent and all is acknowledged: a NOP-Out without an answer follows the last one so. Some 10 KB in
/// the other end's buffer by the time that the command timeout ends it.
const NUDGE_EVERY: Duration = Duration::from_millis(250);
/// A silent connection is looked at so often.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// A busy one so often: its round trip is wanted.
const SAMPLE_BUSY: Duration = Duration::from_secs(1);
/// Nothing acknowledged for so long while another path was: dead.
const DEAD_AFTER: Duration = Duration::from_millis(100);
/// The same by fewer segments, or with no other path to compare: TCP has repeated itself twice by then.
const DEAD_ALONE_AFTER: Duration = Duration::from_secs(1);
/// Every path silent: the target or the whole network is down. There is nowhere to go, so the sessions are kept over
/// what a switch needs to fail over. Not longer: TCP's repetitions are seconds apart by then and would notice the
/// return late, whereas a fresh connection notices it within the reconnect backoff, and its login resolves what the
/// old session left.
const DEAD_TOGETHER_AFTER: Duration = Duration::from_secs(5);
/// Segments without an acknowledgement that convict within [`DEAD_AFTER`]: a command and two probes, sent at different
/// times. The random loss of all three is no matter of chance any more.
const CONVICTING: u32 = 3;
/// Commands without a completion for so long, although the path answers, while another path completes commands.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// Longest NOP-Out: header and digest.
const PROBE_BYTES: u64 = 52;
/// The kernel counts the age of an acknowledgement in ticks of up to 10 ms.
const TICKS: Duration = Duration::from_millis(20);

/// What other paths to the same target show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Peers {
    /// There is one with a session.
    pub(crate) established: bool,
    /// One of them showed life then, at the latest.
    pub(crate) alive_at: Instant,
    /// One of them completed a command then, at the latest.
    pub(crate) completed_at: Instant,
}

/// Why a path gets no new IO if another can take it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Suspicion {
    /// No progress.
    Silent,
    /// It answers, but completes no command.
    Stuck,
}

/// The clocks of a path's connection.
#[derive(Clone, Debug)]
pub(crate) struct Silence {
    /// Since then something is outstanding.
    outstanding_since: Option<Instant>,
    /// The last progress.
    progress_at: Instant,
    /// The last completion of a command, or the first command after none was in flight.
    commands_since: Option<Instant>,
    /// The last completion of a command.
    completed_at: Instant,
    /// The last sign of life.
    alive_at: Instant,
    sample: Option<TcpProgress>,
    sampled_at: Instant,
    /// Every sample since then saw segments on the wire.
    unacknowledged_since: Option<Instant>,
    probed_at: Instant,
    /// When a probe was last really sent.
    queued_at: Instant,
    /// Bytes of probes whose acknowledgement has not been seen.
    probe_bytes: u64,
    gap: Gap,
    suspicion: Option<(Suspicion, Instant)>,
}

impl Silence {
    pub(crate) fn new(now: Instant) -> Silence {
        Silence {
            outstanding_since: None,
            progress_at: now,
            commands_since: None,
            completed_at: Instant::default(),
            alive_at: Instant::default(),
            sample: None,
            sampled_at: Instant::default(),
            unacknowledged_since: None,
            probed_at: Instant::default(),
            queued_at: Instant::default(),
            probe_bytes: 0,
            gap: Gap::default(),
            suspicion: None,
        }
    }

    /// A new connection. What was learned about gaps stays.
    pub(crate) fn connected(&mut self, now: Instant) {
        *self = Silence {
            gap: self.gap,
            ..Silence::new(now)
        };
    }

    /// The connection is over.
    pub(crate) fn disconnected(&mut self, now: Instant) {
        self.connected(now);
    }

    /// So many commands are in flight; `other`: a login or a ping is.
    pub(crate) fn observe(&mut self, now: Instant, commands: u32, other: bool) {
        if commands == 0 {
            self.commands_since = None;
            if let Some((Suspicion::Stuck, _)) = self.suspicion {
                self.suspicion = None;
            }
        } else {
            self.commands_since.get_or_insert(now);
        }
        if commands == 0 && !other {
            self.outstanding_since = None;
            self.suspicion = None;
        } else if self.outstanding_since.is_none() {
            self.outstanding_since = Some(now);
            self.progress_at = self.progress_at.max(now);
        }
    }

    /// Bytes arrived.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.alive_at = self.alive_at.max(now);
        self.progress(now);
    }

    /// A command was answered.
    pub(crate) fn completed(&mut self, now: Instant) {
        self.completed_at = now;
        self.commands_since = self.commands_since.map(|_| now);
        if let Some((Suspicion::Stuck, _)) = self.suspicion {
            self.suspicion = None;
        }
    }

    /// A probe was sent if `queued`; it was wanted in any case.
    pub(crate) fn probed(&mut self, now: Instant, queued: bool) {
        self.probed_at = now;
        if queued {
            self.queued_at = now;
            self.probe_bytes += PROBE_BYTES;
        }
    }

    /// What TCP has to say.
    pub(crate) fn sampled(&mut self, now: Instant, sample: TcpProgress) {
        let acked_at = before(now, sample.since_ack);
        let received_at = before(now, sample.since_data);
        match self.sample {
            None => self.alive_at = self.alive_at.max(acked_at),
            Some(last) => {
                let acked = sample.acked.saturating_sub(last.acked);
                if acked > 0 {
                    // What is outstanding now is younger: the last sample may have been taken just behind a ping, and so
                    // may this one.
                    self.unacknowledged_since = None;
                }
                if acked > 0 || acked_at > before(self.sampled_at, last.since_ack) + TICKS {
                    self.alive_at = self.alive_at.max(acked_at);
                }
                if acked > self.probe_bytes {
                    self.probe_bytes = 0;
                    self.progress(acked_at);
                } else {
                    self.probe_bytes -= acked;
                }
                if sample.received > last.received {
                    self.alive_at = self.alive_at.max(received_at);
                    self.progress(received_at);
                }
            }
        }
        if sample.unacked == 0 {
            self.unacknowledged_since = None;
        } else {
            // What was sent last is on the wire since then at least.
            self.unacknowledged_since
                .get_or_insert(before(now, sample.since_sent));
        }
        self.sample = Some(sample);
        self.sampled_at = now;
    }

    /// We did not run for so long: that time proves nothing against anybody.
    pub(crate) fn forgive(&mut self, now: Instant, pause: Duration) {
        let later = |at: Instant| (at + pause).min(now);
        self.progress_at = later(self.progress_at);
        self.alive_at = later(self.alive_at);
        self.probed_at = later(self.probed_at);
        self.commands_since = self.commands_since.map(later);
        self.unacknowledged_since = self.unacknowledged_since.map(later);
        self.outstanding_since = self.outstanding_since.map(later);
        self.sampled_at = later(self.sampled_at);
    }

    fn progress(&mut self, at: Instant) {
        // The statistics may tell what was known.
        if at <= self.progress_at {
            return;
        }
        if self.outstanding_since.is_some() {
            self.gap.observe(at.since(self.progress_at));
        }
        self.progress_at = at;
        if let Some((Suspicion::Silent, _)) = self.suspicion {
            self.suspicion = None;
        }
    }

    fn min_rtt(&self) -> Duration {
        self.sample
            .and_then(|sample| sample.min_rtt)
            .unwrap_or_default()
    }

    /// Silence beyond this is suspicious.
    fn suspect_after(&self) -> Duration {
        SUSPECT_FLOOR
            .max(4 * self.min_rtt())
            .max(self.gap.usual().min(GAP_MAX))
    }

    fn next_probe(&self) -> Instant {
        let limit = self.suspect_after();
        if self.probed_at <= self.progress_at {
            self.progress_at + limit / 2
        } else if self.probed_at < self.progress_at + limit {
            self.progress_at + limit
        } else {
            self.probed_at + PROBE_EVERY
        }
    }

    fn next_sample(&self, since: Instant) -> Instant {
        let silent = self.progress_at.max(self.sampled_at) + SAMPLE_EVERY;
        let busy = self.sampled_at + SAMPLE_BUSY;
        // Not later than the verdict may fall.
        let verdict = self
            .silent_since()
            .map(|since| since + self.limit(DEAD_AFTER))
            .filter(|&at| at > self.sampled_at)
            .unwrap_or(busy);
        silent.min(busy).min(verdict).max(since)
    }

    /// Since then TCP waits for an acknowledgement.
    fn silent_since(&self) -> Option<Instant> {
        Some(self.unacknowledged_since?.max(self.alive_at))
    }

    fn limit(&self, floor: Duration) -> Duration {
        floor.max(20 * self.min_rtt())
    }

    /// Whether the runtime should read the connection's TCP statistics now.
    pub(crate) fn wants_sample(&self, now: Instant) -> bool {
        self.outstanding_since
            .is_some_and(|since| now >= self.next_sample(since))
    }

    /// The runtime did not read them although they are due: not before the next time.
    pub(crate) fn skip_sample(&mut self, now: Instant) {
        if self.wants_sample(now) {
            self.sampled_at = now;
            self.unacknowledged_since = None;
        }
    }

    /// Whether a probe should leave now.
    pub(crate) fn wants_probe(&self, now: Instant) -> bool {
        self.outstanding_since.is_some() && now >= self.next_probe()
    }

    /// Whether a probe that needs no answer should leave in place of a ping that may not: else nothing would be on the wire, and
    /// TCP could not tell that the link is gone.
    pub(crate) fn wants_nudge(&self, now: Instant) -> bool {
        let acknowledged = self.sample.is_some_and(|sample| sample.unacked == 0);
        acknowledged && now >= self.queued_at + NUDGE_EVERY
    }

    /// Whether a path that is not silent itself should be probed, to bear witness.
    pub(crate) fn wants_witness_probe(&self, now: Instant) -> bool {
        now >= self.alive_at.max(self.probed_at) + PROBE_EVERY
    }

    /// Whether other paths should show whether the target lives.
    pub(crate) fn wants_witness(&self) -> bool {
        matches!(self.suspicion, Some((Suspicion::Silent, _)))
    }

    /// When something is due next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let since = self.outstanding_since?;
        let mut at = self.next_probe().min(self.next_sample(since));
        if self.suspicion.is_none() {
            at = at.min(self.progress_at + self.suspect_after());
        }
        Some(at)
    }

    /// Judges.
    pub(crate) fn check(&mut self, now: Instant, peers: &Peers) -> Option<Dead> {
        self.outstanding_since?;
        if self.suspicion.is_none() {
            let stuck = self.commands_since.is_some_and(|since| {
                now.since(since) >= STUCK_AFTER && peers.completed_at >= since + STUCK_AFTER / 2
            });
            if now.since(self.progress_at) >= self.suspect_after() {
                self.suspicion = Some((Suspicion::Silent, now));
            } else if stuck {
                self.suspicion = Some((Suspicion::Stuck, now));
            }
        }
        self.dead(now, peers)
    }

    fn dead(&self, now: Instant, peers: &Peers) -> Option<Dead> {
        let sample = self.sample?;
        let since = self.silent_since()?;
        let silence = now.since(since);
        // Life of another path at the very start of the silence proves nothing: both may have gone at once.
        let witness = |limit: Duration| peers.alive_at >= since + limit / 2;
        let soon = self.limit(DEAD_AFTER);
        let late = self.limit(DEAD_ALONE_AFTER);
        if !peers.established {
            (silence >= late).then_some(Dead::Alone { silence })
        } else if (silence >= soon && sample.unacked >= CONVICTING && witness(soon))
            || (silence >= late && witness(late))
        {
            Some(Dead::WhileOthersLive { silence })
        } else {
            (silence >= self.limit(DEAD_TOGETHER_AFTER)).then_some(Dead::Together { silence })
        }
    }

    /// Whether new IO should go elsewhere if it can, and since when.
    pub(crate) fn suspect_since(&self) -> Option<Instant> {
        self.suspicion.map(|(_, since)| since)
    }

    /// The last sign of life.
    pub(crate) fn alive_at(&self) -> Instant {
        self.alive_at
    }

    /// The last completion of a command.
    pub(crate) fn completed_at(&self) -> Instant {
        self.completed_at
    }
}

fn before(now: Instant, age: Duration) -> Instant {
    let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    Instant::from_nanos(now.nanos().saturating_sub(age))
}

/// How long this path usually is without progress while something is outstanding: about the 99.9th percentile, found
/// by small steps. A gap beyond it raises it by a quarter, one within it lowers it by 1/999 of that, so that at rest one
/// gap in a thousand lies beyond. One long outage moves it no further than a short one.
#[derive(Clone, Copy, Debug)]
struct Gap {
    nanos: u64,
}

impl Default for Gap {
    fn default() -> Gap {
        Gap { nanos: Gap::FLOOR }
    }
}

impl Gap {
    /// Below this the path is not suspected anyway.
    const FLOOR: u64 = SUSPECT_FLOOR.as_nanos() as u64;

    fn observe(&mut self, gap: Duration) {
        let limit = GAP_MAX.as_nanos() as u64;
        if gap > self.usual() {
            self.nanos += self.nanos / 4;
        } else {
            self.nanos -= self.nanos / (4 * 999);
        }
        self.nanos = self.nanos.clamp(Gap::FLOOR, limit);
    }

    fn usual(self) -> Duration {
        Duration::from_nanos(self.nanos)
    }
}

#[cfg(test)]
mod tests;
