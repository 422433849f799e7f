//! Which path is silent, and what follows: probes, steering, and the end of a dead connection. The rule itself is in
//! [`crate::path::silence`]; here it gets what it judges by, and its verdicts are carried out.
//!
//! A path alone proves nothing: while one is silent, the others to the same target are probed as witnesses. Their life
//! makes its silence its own; their silence makes it everybody's.

use core::time::Duration;

use iscsi_client::session::Session;
use iscsi_client::time::Instant;

use super::ending::Life;
use super::{CloseHow, Link, LinkId, Note, PathId, Volume};
use crate::contract::TcpProgress;
use crate::path::damping::Blame;
use crate::path::silence::Peers;
use crate::path::{After, Phase};

/// A timer that fires so late shows that we did not run.
const LATE: Duration = Duration::from_millis(20);

impl Volume {
    /// Whether the runtime should read this connection's TCP statistics now and report them by
    /// [`Volume::tcp_progress`], before [`Volume::handle_timeout`]. Never while nothing is outstanding there.
    pub fn wants_progress(&self, now: Instant, link: LinkId) -> bool {
        match Link::of(link) {
            Link::Data(path) => self
                .paths
                .get(usize::from(path.0))
                .is_some_and(|path| path.silence.wants_sample(now)),
            Link::Fence(_) => false,
        }
    }

    /// TCP statistics of a connection, read just now.
    pub fn tcp_progress(&mut self, now: Instant, link: LinkId, progress: TcpProgress) {
        self.forgive_own_pause(now);
        if let Link::Data(path) = Link::of(link)
            && let Some(path) = self.paths.get_mut(usize::from(path.0))
        {
            path.silence.sampled(now, progress);
        }
    }

    /// The carrier of the interface that this path's connections are bound to came or went. A lost one is evidence
    /// that needs no waiting; one that is back ends the wait for the next attempt.
    pub fn carrier(&mut self, now: Instant, path: PathId, up: bool) {
        let Some(known) = self.paths.get_mut(usize::from(path.0)) else {
            return;
        };
        let waits = matches!(known.phase, Phase::Down { .. });
        if !up {
            let after = After::Retry {
                why: "its interface has no carrier".to_owned(),
                pause: Duration::ZERO,
            };
            self.close_path(now, path, CloseHow::Abort, after);
        } else if waits && self.life == Life::Running {
            known.backoff.reset();
            self.connect(now, path);
        }
        self.settle(now);
    }

    /// Bytes arrived.
    pub(super) fn heard(&mut self, now: Instant, link: LinkId) {
        if let Link::Data(path) = Link::of(link)
            && let Some(path) = self.paths.get_mut(usize::from(path.0))
        {
            path.silence.heard(now);
        }
    }

    /// After each event: what is outstanding where.
    pub(super) fn observe_outstanding(&mut self, now: Instant) {
        for path in &mut self.paths {
            let commands = path.in_flight();
            let pings = path.session.as_ref().map_or(0, Session::pings);
            match path.phase {
                Phase::LoggingIn => path.silence.observe(now, 0, true),
                Phase::Verifying { .. }
                | Phase::Up { .. }
                | Phase::Standby { .. }
                | Phase::Leaving { .. } => path.silence.observe(now, commands, pings > 0),
                _ => path.silence.observe(now, 0, false),
            }
        }
    }

    pub(super) fn detection_deadline(&self) -> Option<Instant> {
        self.paths
            .iter()
            .filter_map(|path| path.silence.deadline())
            .min()
    }

    /// Fires what is due: probes, suspicions, verdicts.
    pub(super) fn detect(&mut self, now: Instant) {
        self.forgive_own_pause(now);
        let mut witnesses_wanted = false;
        for id in self.path_ids() {
            let peers = self.peers(id);
            let path = self.path_mut(id);
            path.silence.skip_sample(now);
            if let Some(dead) = path.silence.check(now, &peers) {
                self.notes.push(Note::Dead { path: id, dead });
                let after = After::Retry {
                    why: dead.to_string(),
                    pause: Duration::ZERO,
                };
                self.close_path(now, id, CloseHow::Abort, after);
                continue;
            }
            if path.silence.wants_probe(now) {
                path.probe(now);
            }
            witnesses_wanted |= path.silence.wants_witness();
            self.act_on_suspicion(now, id);
        }
        if witnesses_wanted {
            for path in &mut self.paths {
                if path.is_established() && path.silence.wants_witness_probe(now) {
                    path.probe(now);
                }
            }
        }
    }

    /// A path has just become suspect: what can be helped is helped. It has just recovered: that is remembered.
    fn act_on_suspicion(&mut self, now: Instant, id: PathId) {
        let path = self.path_mut(id);
        match (path.suspected, path.silence.suspect_since()) {
            (None, Some(since)) => {
                path.suspected = Some(since);
                path.load.suspected(now);
                self.rescue(now, id);
            }
            (Some(since), None) => {
                path.suspected = None;
                if path.damping.blame(now, Blame::Suspect(now.since(since))) {
                    self.flapping(now, id);
                }
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// It has just become marginal by what it did lately.
    pub(super) fn flapping(&mut self, now: Instant, id: PathId) {
        let until = self.path(id).damping.marginal_until(now);
        let seconds = until.map_or(0, |until| until.since(now).as_secs());
        self.notes.push(Note::Flapping { path: id, seconds });
    }

    /// What the other paths to the same target show.
    fn peers(&self, id: PathId) -> Peers {
        let mut peers = Peers::default();
        for other in self.path_ids().filter(|&other| other != id) {
            let path = self.path(other);
            if path.is_established() && path.config.target_name == self.path(id).config.target_name
            {
                peers.established = true;
                peers.alive_at = peers.alive_at.max(path.silence.alive_at());
                peers.completed_at = peers.completed_at.max(path.silence.completed_at());
            }
        }
        peers
    }

    /// Time in which this process did not run proves nothing against a path.
    fn forgive_own_pause(&mut self, now: Instant) {
        if let Some(due) = self.detection_deadline()
            && now.since(due) > LATE
        {
            for path in &mut self.paths {
                path.silence.forgive(now, now.since(due));
            }
        }
    }
}
