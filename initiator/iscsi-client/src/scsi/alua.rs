//! REPORT and SET TARGET PORT GROUPS data (SPC-5): which ports serve the logical unit, and how well.

use core::time::Duration;

use super::page::{BadPage, Page};

/// Asymmetric access state of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum AluaState {
    ActiveOptimized,
    ActiveNonOptimized,
    Standby,
    Unavailable,
    LbaDependent,
    Offline,
    Transitioning,
    Reserved(u8),
}

impl AluaState {
    fn from_low_nibble(byte: u8) -> Self {
        match byte & 0x0f {
            0x0 => AluaState::ActiveOptimized,
            0x1 => AluaState::ActiveNonOptimized,
            0x2 => AluaState::Standby,
            0x3 => AluaState::Unavailable,
            0x4 => AluaState::LbaDependent,
            0xe => AluaState::Offline,
            0xf => AluaState::Transitioning,
            other => AluaState::Reserved(other),
        }
    }

    /// Whether reads and writes are served in this state.
    pub fn serves_io(self) -> bool {
        matches!(
            self,
            AluaState::ActiveOptimized | AluaState::ActiveNonOptimized | AluaState::LbaDependent
        )
    }
}

/// Ports that share one access state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortGroup {
    /// The group's number.
    pub id: u16,
    /// Its state.
    pub state: AluaState,
    /// PREF: the target would rather be used here.
    pub preferred: bool,
    /// Supported states as the standard's bits: 80h transitioning, 40h offline, 08h unavailable, 04h standby,
    /// 02h non-optimized, 01h optimized, 10h LBA dependent.
    pub supported: u8,
    /// 0 no status, 1 changed by command, 2 changed by the target.
    pub status: u8,
    /// Relative port identifiers.
    pub ports: Vec<u16>,
}

/// All groups of a logical unit, whichever path reported them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortGroups {
    /// How long an implicit transition may take, if the target says so (extended header only).
    pub transition_time: Option<Duration>,
    /// The groups that arrived whole.
    pub groups: Vec<PortGroup>,
    /// The allocation length that would have held the whole answer, in bytes.
    pub len_needed: u32,
}

impl PortGroups {
    /// Reads the data in either format; the format field says which one it is, whatever was asked for. The
    /// first four bytes, the length, must be there.
    pub fn parse(data: &[u8]) -> Result<PortGroups, BadPage> {
        let page = Page::of_len(data, 4)?;
        let stated = page.u32(0);
        let page = Page(
            page.slice(
                0,
                usize::try_from(stated)
                    .unwrap_or(usize::MAX)
                    .saturating_add(4),
            ),
        );
        let extended = page.u8(4) & 0x70 == 0x10;
        let seconds = if extended { page.u8(5) } else { 0 };
        let mut rest = page.slice(if extended { 8 } else { 4 }, usize::MAX);
        let mut groups = Vec::new();
        while let Ok(group) = Page::of_len(rest, 8) {
            let end = 8 + 4 * usize::from(group.u8(7));
            let Some(ports) = rest.get(8..end) else { break };
            groups.push(PortGroup {
                id: group.u16(2),
                state: AluaState::from_low_nibble(group.u8(0)),
                preferred: group.bit(0, 0x80),
                supported: group.u8(1),
                status: group.u8(5),
                ports: ports
                    .chunks_exact(4)
                    .map(|port| Page(port).u16(2))
                    .collect(),
            });
            rest = rest.get(end..).unwrap_or(&[]);
        }
        Ok(PortGroups {
            transition_time: (seconds != 0).then(|| Duration::from_secs(seconds.into())),
            groups,
            len_needed: stated.saturating_add(4),
        })
    }

    /// The group with this number. Our own port's is in VPD page 83h:
    /// [`super::Designators::target_port_group`].
    pub fn group(&self, id: u16) -> Option<&PortGroup> {
        self.groups.iter().find(|group| group.id == id)
    }
}

/// Length of the parameter data that [`set_groups_parameters`] writes, in bytes.
pub const SET_GROUPS_LEN: u32 = 8;

/// Writes the parameter data of a SET TARGET PORT GROUPS that makes one group active/optimized and leaves the others to
/// the target.
///
/// # Panics
/// If `out` is shorter than [`SET_GROUPS_LEN`].
pub fn set_groups_parameters(out: &mut [u8], group: u16) {
    let out = &mut out[..SET_GROUPS_LEN as usize];
    out.fill(0);
    out[6..8].copy_from_slice(&group.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const GROUPS: [u8; 28] = [
        0x80, 0x8f, 0x00, 0x01, 0, 0x02, 0, 2,  0, 0, 0, 1,  0, 0, 0, 2,
        0x02, 0x8f, 0x01, 0x00, 0, 0x01, 0, 1,  0, 0, 0, 3,
    ];

    fn expected() -> Vec<PortGroup> {
        vec![
            PortGroup {
                id: 1,
                state: AluaState::ActiveOptimized,
                preferred: true,
                supported: 0x8f,
                status: 2,
                ports: vec![1, 2],
            },
            PortGroup {
                id: 0x100,
                state: AluaState::Standby,
                preferred: false,
                supported: 0x8f,
                status: 1,
                ports: vec![3],
            },
        ]
    }

    #[test]
    fn length_only_header() {
        let data = [&[0, 0, 0, 28], &GROUPS[..]].concat();
        let parsed = PortGroups::parse(&data).unwrap();
        assert_eq!(parsed.transition_time, None);
        assert_eq!(parsed.groups, expected());
        assert_eq!(parsed.len_needed, 32);
        assert_eq!(parsed.group(0x100).unwrap().state, AluaState::Standby);
        assert_eq!(parsed.group(7), None);
    }

    #[test]
    fn extended_header() {
        let data = [&[0, 0, 0, 32, 0x10, 30, 0, 0], &GROUPS[..]].concat();
        let parsed = PortGroups::parse(&data).unwrap();
        assert_eq!(parsed.transition_time, Some(Duration::from_secs(30)));
        assert_eq!(parsed.groups, expected());
        let unknown = [&[0, 0, 0, 32, 0x10, 0, 0, 0], &GROUPS[..]].concat();
        assert_eq!(PortGroups::parse(&unknown).unwrap().transition_time, None);
    }

    #[test]
    fn cut_in_the_second_group() {
        let data = [&[0, 0, 0, 28], &GROUPS[..]].concat();
        let parsed = PortGroups::parse(&data[..30]).unwrap();
        assert_eq!(parsed.groups, expected()[..1]);
        assert_eq!(parsed.len_needed, 32);
        assert!(PortGroups::parse(&data[..3]).is_err());
        assert!(PortGroups::parse(&data[..4]).unwrap().groups.is_empty());
    }

    #[test]
    fn one_group_is_made_active() {
        let mut data = [0xff; 8];
        set_groups_parameters(&mut data, 0x0102);
        assert_eq!(data, [0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn states() {
        use AluaState::*;
        let table = [
            (0x0, ActiveOptimized, true),
            (0x1, ActiveNonOptimized, true),
            (0x2, Standby, false),
            (0x3, Unavailable, false),
            (0x4, LbaDependent, true),
            (0x5, Reserved(5), false),
            (0xe, Offline, false),
            (0xf, Transitioning, false),
        ];
        for (nibble, state, serves) in table {
            assert_eq!(AluaState::from_low_nibble(0x80 | nibble), state);
            assert_eq!(state.serves_io(), serves);
        }
    }

    proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..300), short: bool) {
            let mut data = data;
            if short && data.len() > 4 {
                data[..4].copy_from_slice(&[0, 0, 1, 0]);
            }
            if let Ok(parsed) = PortGroups::parse(&data) {
                prop_assert!(parsed.groups.len() <= data.len() / 8);
            }
        }
    }
}
