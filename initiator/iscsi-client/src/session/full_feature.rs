//! A session that carries commands: what the login agreed on, and what is under way.
//!
//! The work is done elsewhere: `receive` handles what arrives, `transmit` decides what leaves.

use crate::login::Negotiated;
use crate::time::Instant;
use crate::wire::StatSn;

use super::keepalive::Keepalive;
use super::tasks::Tasks;
use super::text::TextExchange;
use super::transmit::{Digests, Immediate, Outbox, UnaskedLimits, segment_max};
use super::window::Window;

/// A session that carries commands.
#[derive(Debug)]
pub(super) struct FullFeature {
    pub(super) digests: Digests,
    /// Longest data segment that we send.
    pub(super) segment_max: u32,
    /// Longest data segment that we take.
    pub(super) receive_max: u32,
    /// MaxBurstLength.
    pub(super) burst_max: u32,
    /// MaxOutstandingR2T.
    pub(super) r2ts_max: u16,
    pub(super) unasked: UnaskedLimits,
    pub(super) window: Window,
    /// The next StatSN we expect.
    pub(super) exp_stat_sn: StatSn,
    pub(super) tasks: Tasks,
    pub(super) outbox: Outbox,
    pub(super) text: TextExchange,
    pub(super) keepalive: Keepalive,
    pub(super) leaving: Leaving,
}

/// How far a logout is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaving {
    No,
    /// The logout leaves when no sent command is unanswered.
    WhenIdle,
    /// The logout is on its way.
    Requested,
}

impl FullFeature {
    pub(super) fn new(
        negotiated: &Negotiated,
        window: Window,
        exp_stat_sn: StatSn,
        tasks: Tasks,
        keepalive: Keepalive,
    ) -> FullFeature {
        let segment_max = segment_max(negotiated.max_send_data_segment_length);
        FullFeature {
            digests: Digests {
                header: negotiated.header_digest,
                data: negotiated.data_digest,
            },
            segment_max,
            receive_max: negotiated.max_recv_data_segment_length,
            burst_max: negotiated.max_burst_length,
            r2ts_max: negotiated.max_outstanding_r2t,
            unasked: UnaskedLimits::new(
                negotiated.immediate_data,
                negotiated.initial_r2t,
                negotiated.first_burst_length,
                segment_max,
            ),
            window,
            exp_stat_sn,
            outbox: Outbox::new(tasks.room() as usize, negotiated.max_outstanding_r2t),
            tasks,
            text: TextExchange::default(),
            keepalive,
            leaving: Leaving::No,
        }
    }

    /// Queues one more ping, unless as many as the table holds are unanswered. Whether one was queued.
    pub(super) fn ping(&mut self, now: Instant) -> bool {
        self.keepalive.pinged(now);
        let task = self.tasks.insert_ping();
        if let Some(task) = task {
            self.outbox.immediates.push_back(Immediate::Ping(task));
        }
        task.is_some()
    }
}
