//! The lock value block: one sector of a resource, free for its owner to fill.
//!
//! It lies in sector 2002 *whatever the geometry*. Areas of 4096-byte sectors that are smaller than 8 MiB end before
//! that, and what lies there is a host's sector of a later resource: one LVB written by the real program makes that
//! resource impossible to acquire. So in those geometries there is no LVB for us, none is formatted by us, and the
//! sector at risk is known by name.

use super::{Geometry, HostId};

/// The sector, counted from the start of the resource area.
pub const LVB_SECTOR: u64 = 2002;

/// What an LVB of the real program hits where it does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LvbVictim {
    /// Areas between the resource with the LVB and the one that is hit.
    pub areas_on: u64,
    /// Whose sector is hit there.
    pub host: HostId,
}

impl Geometry {
    /// Bytes from the start of a resource area to its LVB; `None` where it would lie outside the area.
    pub const fn lvb_sector(self) -> Option<u64> {
        let offset = LVB_SECTOR * self.sector_bytes() as u64;
        match offset + self.sector_bytes() as u64 <= self.area_bytes() {
            true => Some(offset),
            false => None,
        }
    }

    /// What lies where the real program would write the LVB; `None` where the LVB has room. A dblock of that host
    /// whose checksum is wrong has most probably been hit.
    pub fn lvb_victim(self) -> Option<LvbVictim> {
        if self.lvb_sector().is_some() {
            return None;
        }
        let sectors = self.area_bytes() / self.sector_bytes() as u64;
        Some(LvbVictim {
            areas_on: LVB_SECTOR / sectors,
            host: HostId::new(LVB_SECTOR % sectors - 1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::{AlignSize, SectorSize};

    #[test]
    fn only_two_geometries_have_room() {
        let found: Vec<_> = Geometry::ALL
            .into_iter()
            .map(|g| {
                let victim = g.lvb_victim().map(|v| (v.areas_on, v.host.number()));
                (g.lvb_sector(), victim)
            })
            .collect();
        assert_eq!(
            found,
            [
                (Some(1_025_024), None),
                (None, Some((7, 209))),
                (None, Some((3, 465))),
                (None, Some((1, 977))),
                (Some(8_200_192), None),
            ]
        );
    }

    #[test]
    fn the_victim_is_where_the_real_program_writes() {
        let g = Geometry::new(SectorSize::B4096, AlignSize::M1).unwrap();
        let victim = g.lvb_victim().unwrap();
        let hit = victim.areas_on * g.area_bytes() + g.host_sector(victim.host);
        assert_eq!(hit, LVB_SECTOR * 4096);
    }
}
