//! A command on its way: the data phase of a write, and what the target remembers until it has answered
//! (RFC 7143, 4.2.5.2 and 11.7).

use std::collections::VecDeque;

use iscsi_client::time::Instant;
use iscsi_client::wire::{DataOut, TaskAttribute, TransferTag};

use super::negotiate::Terms;
use crate::disk::Answer;

/// Longest transfer that the target sets memory aside for.
pub(super) const TRANSFER_MAX: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) lun: [u8; 8],
    pub(super) cdb: [u8; 16],
    pub(super) attribute: TaskAttribute,
    pub(super) expected: u32,
    pub(super) read: bool,
    pub(super) immediate: bool,
    pub(super) phase: Phase,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Data are still to come.
    Collecting(Collection),
    /// Refused, but the unsolicited burst is still running: answered after its F bit.
    Draining(Burst, Answer),
    /// In the backend.
    Executing,
}

/// A run of Data-Out PDUs.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    pub(super) transfer: TransferTag,
    next: u32,
    end: u32,
    data_sn: u32,
}

/// The data of a write.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    pub(super) data: Vec<u8>,
    wanted: u32,
    unsolicited: Option<Burst>,
    bursts: VecDeque<Burst>,
    /// First byte that nobody was asked for.
    asked: u32,
    r2t_sn: u32,
    /// When data last arrived.
    pub(super) since: Instant,
}

/// An R2T to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    pub(super) transfer: TransferTag,
    pub(super) r2t_sn: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Burst {
    /// The burst that a command without the F bit promises.
    pub(super) fn unsolicited(immediate: u32, expected: u32, terms: &Terms) -> Burst {
        Burst {
            transfer: TransferTag::NONE,
            next: immediate,
            end: terms.first_burst_length.min(expected),
            data_sn: 0,
        }
    }

    /// Checks a PDU against what must come. True: the burst is complete.
    pub(super) fn take(&mut self, pdu: &DataOut) -> Result<bool, &'static str> {
        if pdu.data_sn.0 != self.data_sn {
            return Err("DataSN of a Data-Out");
        }
        if pdu.offset != self.next {
            return Err("offset of a Data-Out");
        }
        let next = pdu
            .offset
            .checked_add(pdu.data_len)
            .filter(|next| *next <= self.end);
        let Some(next) = next else {
            return Err("more Data-Out than the burst holds");
        };
        if pdu.last != (next == self.end) {
            return Err("F bit of a Data-Out");
        }
        self.next = next;
        self.data_sn += 1;
        Ok(pdu.last)
    }
}

impl Collection {
    /// `unsolicited`: the command said that Data-Out follows unasked.
    pub(super) fn new(
        now: Instant,
        immediate: &[u8],
        wanted: u32,
        unsolicited: Option<Burst>,
    ) -> Collection {
        let known = unsolicited
            .as_ref()
            .map_or(immediate.len() as u32, |burst| burst.end);
        let mut data = vec![0; wanted.max(known) as usize];
        data[..immediate.len()].copy_from_slice(immediate);
        Collection {
            data,
            wanted,
            asked: known,
            unsolicited,
            bursts: VecDeque::new(),
            r2t_sn: 0,
            since: now,
        }
    }

    /// Whether nothing is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.unsolicited.is_none() && self.bursts.is_empty() && self.asked >= self.wanted
    }

    /// The next range to ask for, if one may be asked for now.
    pub(super) fn ask(&mut self, terms: &Terms, transfer: TransferTag) -> Option<Ask> {
        if self.unsolicited.is_some()
            || self.asked >= self.wanted
            || self.bursts.len() >= usize::from(terms.max_outstanding_r2t)
        {
            return None;
        }
        let len = (self.wanted - self.asked).min(terms.max_burst_length);
        let ask = Ask {
            transfer,
            r2t_sn: self.r2t_sn,
            offset: self.asked,
            len,
        };
        self.bursts.push_back(Burst {
            transfer,
            next: ask.offset,
            end: ask.offset + len,
            data_sn: 0,
        });
        self.asked += len;
        self.r2t_sn += 1;
        Some(ask)
    }

    /// Takes data.
    pub(super) fn take(
        &mut self,
        now: Instant,
        pdu: &DataOut,
        data: &[u8],
    ) -> Result<(), &'static str> {
        if pdu.transfer == TransferTag::NONE {
            let burst = self
                .unsolicited
                .as_mut()
                .ok_or("unsolicited Data-Out that was not announced")?;
            if burst.take(pdu)? {
                self.unsolicited = None;
            }
        } else {
            // Served in the order in which they were asked for: only the first may grow.
            let burst = self
                .bursts
                .front_mut()
                .ok_or("Data-Out that nobody asked for")?;
            if burst.transfer != pdu.transfer {
                return Err("Data-Out for another R2T than the oldest");
            }
            if burst.take(pdu)? {
                self.bursts.pop_front();
            }
        }
        let start = pdu.offset as usize;
        self.data[start..start + data.len()].copy_from_slice(data);
        self.since = now;
        Ok(())
    }

    /// Whether the target waits for data that it asked for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.bursts.is_empty() || self.unsolicited.is_some()
    }

    /// The data the command gets.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.data.truncate(self.wanted as usize);
        self.data
    }
}
