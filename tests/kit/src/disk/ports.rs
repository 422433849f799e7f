//! What the unit is through its ports: served or not (ALUA), and how large by their word.

use iscsi_client::time::Instant;

use super::{AluaState, Code, Group, LogicalUnit};

impl LogicalUnit {
    /// Another word on the capacity through the ports of this group; `None`: the truth again.
    pub fn report_blocks(&mut self, group: Group, blocks: Option<u64>) {
        match blocks {
            Some(blocks) => self.stale_capacities.insert(group, blocks),
            None => self.stale_capacities.remove(&group),
        };
    }

    /// SET TARGET PORT GROUPS commands so far: when, and which group was to be active.
    pub fn activations(&self) -> &[(Instant, Group)] {
        &self.activations
    }

    /// Sets the access state of a group; every nexus hears of it by unit attention.
    pub fn set_group(&mut self, group: Group, state: AluaState, preferred: bool) {
        let known = self.groups.insert(group, (state, preferred));
        if known.is_some_and(|old| old != (state, preferred)) {
            self.attention(Code::ALUA_CHANGED, None);
        }
    }

    /// Every known group is active/optimized.
    pub fn serve_everywhere(&mut self) {
        let groups: Vec<Group> = self.groups.keys().copied().collect();
        for group in groups {
            self.set_group(group, AluaState::Optimized, false);
        }
    }

    pub(super) fn access(&self, group: Group) -> AluaState {
        self.groups
            .get(&group)
            .map_or(AluaState::Optimized, |(state, _)| *state)
    }
}
