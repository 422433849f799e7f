//! The moment a command takes effect.

use iscsi_client::time::Instant;

use super::operation::Operation;
use super::sense::{Answer, Code};
use super::{AluaState, Effect, Group, Job, LogicalUnit, Nexus, pages};

impl LogicalUnit {
    pub(super) fn execute(&mut self, at: Instant, job: &Job) -> Answer {
        let operation = match Operation::decode(&job.cdb) {
            Ok(operation) => operation,
            Err(code) => return self.check(code),
        };
        match operation {
            Operation::TestUnitReady => Answer::good(0),
            Operation::RequestSense { descriptor } => {
                let format = if descriptor {
                    super::Format::Descriptor
                } else {
                    super::Format::Fixed
                };
                let pending = self
                    .nexuses
                    .get_mut(&job.nexus)
                    .and_then(|state| state.attentions.pop_front());
                Answer::data(pending.unwrap_or(Code(0, 0, 0)).encode(format, false, None))
            }
            Operation::Inquiry { page: None, len } => cut(pages::inquiry(&self.config), len),
            Operation::Inquiry {
                page: Some(page),
                len,
            } => match pages::vital(&self.config, page, job.group, job.port) {
                Some(data) => cut(data, len),
                None => self.check(Code::INVALID_FIELD),
            },
            Operation::ModeSense10 { page, len } => match pages::mode(&self.config, page) {
                Some(data) => cut(data, len),
                None => self.check(Code::INVALID_FIELD),
            },
            Operation::ReadCapacity16 { len } => {
                let stale = self.stale_capacities.get(&job.group);
                let blocks = stale.copied().unwrap_or(self.config.blocks);
                cut(pages::capacity(&self.config, blocks), len)
            }
            Operation::GetLbaStatus { lba, len } => self.lba_status(lba, len),
            Operation::Read { lba, blocks } => {
                if let Some(refusal) = self.out_of_bounds(lba, blocks) {
                    return refusal;
                }
                let mut data =
                    Vec::with_capacity(blocks as usize * self.config.block_size as usize);
                self.store.read(lba, u64::from(blocks), &mut data);
                Answer::data(data)
            }
            Operation::Write { lba, blocks, fua } => {
                self.write(at, job, lba, blocks, fua, &job.data)
            }
            Operation::Synchronize { lba, blocks } => {
                if lba
                    .checked_add(u64::from(blocks))
                    .is_none_or(|end| end > self.config.blocks)
                {
                    return self.check(Code::LBA_OUT_OF_RANGE);
                }
                // A target may flush more than it was asked to.
                self.store.flush();
                Answer::good(0)
            }
            Operation::Unmap { .. } => self.unmap(at, job),
            Operation::WriteSame {
                lba,
                blocks,
                unmap,
                no_data,
            } => self.write_same(at, job, lba, blocks, unmap, no_data),
            Operation::CompareAndWrite { lba, blocks, fua } => {
                self.compare_and_write(at, job, lba, blocks, fua)
            }
            Operation::ReportLuns { .. } => self.check(Code::INVALID_FIELD),
            Operation::ReportTargetPortGroups { extended, len } => {
                if !self.config.alua {
                    return self.check(Code::INVALID_OPCODE);
                }
                let groups = self
                    .groups
                    .iter()
                    .map(|(group, (state, preferred))| (*group, *state, *preferred, group.0));
                match (extended, self.config.transition_seconds) {
                    (true, None) => self.check(Code::INVALID_FIELD),
                    (true, seconds) => cut(pages::groups(groups, seconds), len),
                    (false, _) => cut(pages::groups(groups, None), len),
                }
            }
            Operation::SetTargetPortGroups { len } => self.activate_groups(at, job, len),
        }
    }

    /// Makes the groups named active/optimized; the others stay as they are.
    fn activate_groups(&mut self, at: Instant, job: &Job, len: u32) -> Answer {
        if !self.config.alua_explicit {
            return self.check(Code::INVALID_OPCODE);
        }
        let entries = job.data.get(4..).unwrap_or(&[]).chunks_exact(4);
        for entry in entries {
            if entry[0] & 0x0f != 0 {
                return self.check(Code::INVALID_PARAMETER);
            }
            let group = Group(u16::from_be_bytes([entry[2], entry[3]]));
            self.activations.push((at, group));
            let preferred = self
                .groups
                .get(&group)
                .is_some_and(|&(_, preferred)| preferred);
            self.set_group(group, AluaState::Optimized, preferred);
        }
        Answer::good(u64::from(len))
    }

    fn write(
        &mut self,
        at: Instant,
        job: &Job,
        lba: u64,
        blocks: u32,
        fua: bool,
        data: &[u8],
    ) -> Answer {
        if let Some(refusal) = self.out_of_bounds(lba, blocks) {
            return refusal;
        }
        let wanted = u64::from(blocks) * u64::from(self.config.block_size);
        let here = &data[..data.len().min(wanted as usize)];
        self.store.write(lba, here, fua || !self.config.write_cache);
        let written = here.len() as u64 / u64::from(self.config.block_size);
        self.note(at, job.nexus, lba, written, Some(here.to_vec()));
        Answer::good(wanted)
    }

    fn unmap(&mut self, at: Instant, job: &Job) -> Answer {
        if !self.config.thin {
            return self.check(Code::INVALID_OPCODE);
        }
        let wanted = u64::from(u16::from_be_bytes([job.cdb[7], job.cdb[8]]));
        if wanted == 0 {
            return Answer::good(0);
        }
        if job.data.len() < 8 {
            return self.check(Code::INVALID_PARAMETER);
        }
        let listed = usize::from(u16::from_be_bytes([job.data[2], job.data[3]]));
        let body = &job.data[8..];
        let descriptors = &body[..listed.min(body.len())];
        if descriptors.len() / 16 > self.config.max_unmap_descriptors as usize {
            return self.check(Code::INVALID_PARAMETER);
        }
        let mut ranges = Vec::new();
        for descriptor in descriptors.chunks_exact(16) {
            let lba = u64::from_be_bytes(descriptor[0..8].try_into().expect("eight bytes"));
            let blocks = u32::from_be_bytes(descriptor[8..12].try_into().expect("four bytes"));
            if lba
                .checked_add(u64::from(blocks))
                .is_none_or(|end| end > self.config.blocks)
            {
                return self.check(Code::LBA_OUT_OF_RANGE);
            }
            ranges.push((lba, u64::from(blocks)));
        }
        if ranges.iter().map(|(_, blocks)| blocks).sum::<u64>()
            > u64::from(self.config.max_unmap_blocks)
        {
            return self.check(Code::INVALID_PARAMETER);
        }
        for (lba, blocks) in ranges {
            self.store.discard(lba, blocks, !self.config.write_cache);
            self.note(at, job.nexus, lba, blocks, None);
        }
        Answer::good(wanted)
    }

    fn write_same(
        &mut self,
        at: Instant,
        job: &Job,
        lba: u64,
        blocks: u32,
        unmap: bool,
        no_data: bool,
    ) -> Answer {
        let LogicalUnit { config, .. } = self;
        if !config.write_same {
            return self.check(Code::INVALID_OPCODE);
        }
        if unmap && !config.thin {
            return self.check(Code::INVALID_FIELD);
        }
        // 0 blocks mean "to the end"; a unit with a limit refuses it (WSNZ or too long).
        let count = if blocks == 0 {
            config.blocks.saturating_sub(lba)
        } else {
            u64::from(blocks)
        };
        if config.max_write_same_blocks != 0 && count > config.max_write_same_blocks {
            return self.check(Code::INVALID_FIELD);
        }
        if lba.checked_add(count).is_none_or(|end| end > config.blocks) {
            return self.check(Code::LBA_OUT_OF_RANGE);
        }
        let (durable, block_size) = (!config.write_cache, config.block_size as usize);
        let zeroes = no_data || job.data.iter().all(|byte| *byte == 0);
        if zeroes {
            self.store.discard(lba, count, durable);
            self.note(at, job.nexus, lba, count, None);
        } else {
            if job.data.len() < block_size {
                return self.check(Code::INVALID_FIELD);
            }
            let block = &job.data[..block_size];
            for lba in lba..lba + count {
                self.store.write(lba, block, durable);
            }
            self.note(
                at,
                job.nexus,
                lba,
                count,
                Some(block.repeat(count as usize)),
            );
        }
        Answer::good(if no_data { 0 } else { block_size as u64 })
    }

    fn compare_and_write(
        &mut self,
        at: Instant,
        job: &Job,
        lba: u64,
        blocks: u32,
        fua: bool,
    ) -> Answer {
        if blocks > 1 {
            return self.check(Code::INVALID_FIELD);
        }
        if let Some(refusal) = self.out_of_bounds(lba, blocks) {
            return refusal;
        }
        let half = blocks as usize * self.config.block_size as usize;
        if job.data.len() < 2 * half {
            return self.check(Code::INVALID_FIELD);
        }
        let mut held = Vec::new();
        self.store.read(lba, u64::from(blocks), &mut held);
        let (compare, write) = job.data[..2 * half].split_at(half);
        if let Some(at) = held.iter().zip(compare).position(|(a, b)| a != b) {
            let format = self.config.sense_format;
            return Answer::check(Code::MISCOMPARE.encode(format, false, Some(at as u32)));
        }
        let answer = self.write(at, job, lba, blocks, fua, write);
        Answer {
            wanted: 2 * half as u64,
            ..answer
        }
    }

    fn lba_status(&self, lba: u64, len: u32) -> Answer {
        if lba >= self.config.blocks {
            return self.check(Code::LBA_OUT_OF_RANGE);
        }
        let mut data = vec![0; 24];
        data[3] = 20;
        data[8..16].copy_from_slice(&lba.to_be_bytes());
        data[16..20].copy_from_slice(&1u32.to_be_bytes());
        data[20] = if self.store.is_mapped(lba) { 0 } else { 1 };
        cut(data, len)
    }

    fn out_of_bounds(&self, lba: u64, blocks: u32) -> Option<Answer> {
        let limit = self.config.max_transfer_blocks;
        if lba
            .checked_add(u64::from(blocks))
            .is_none_or(|end| end > self.config.blocks)
        {
            Some(self.check(Code::LBA_OUT_OF_RANGE))
        } else if limit != 0 && blocks > limit {
            Some(self.check(Code::INVALID_FIELD))
        } else {
            None
        }
    }

    fn note(&mut self, at: Instant, nexus: Nexus, lba: u64, blocks: u64, data: Option<Vec<u8>>) {
        if self.config.record_effects {
            self.effects.push(Effect {
                at,
                nexus,
                lba,
                blocks,
                data,
            });
        }
    }
}

/// Allocation length: the initiator's limit on what it wants to see. It is no residual.
fn cut(mut data: Vec<u8>, len: u32) -> Answer {
    data.truncate(len as usize);
    Answer::data(data)
}
