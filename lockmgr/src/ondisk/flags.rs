//! Flags of leader records, and the align size among them.

use std::fmt;

use super::{AlignSize, Geometry, SectorSize};

/// The flags field of a leader. Which bits may be set where depends on the record and its version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LeaderFlags(pub u32);

impl LeaderFlags {
    /// Resource: the owner holds it only while it takes the lease shared; contenders for shared should retry.
    pub const SHORT_HOLD: LeaderFlags = LeaderFlags(0x01);
    /// Delta lease, sanlock 5: no silence, however long, makes this host dead. Only [`DEAD_EXT`](Self::DEAD_EXT) does.
    pub const NO_TIMEOUT: LeaderFlags = LeaderFlags(0x02);
    /// Delta lease, sanlock 5: a fencing agent declared the owner, in this generation, dead.
    pub const DEAD_EXT: LeaderFlags = LeaderFlags(0x04);
    /// sanlock 5: this sector may be changed by SCSI COMPARE AND WRITE only.
    pub const CAW: LeaderFlags = LeaderFlags(0x08);
    /// Areas of 1 MiB.
    pub const ALIGN_1M: LeaderFlags = LeaderFlags(0x10);
    /// Areas of 2 MiB.
    pub const ALIGN_2M: LeaderFlags = LeaderFlags(0x20);
    /// Areas of 4 MiB.
    pub const ALIGN_4M: LeaderFlags = LeaderFlags(0x40);
    /// Areas of 8 MiB.
    pub const ALIGN_8M: LeaderFlags = LeaderFlags(0x80);

    const ALIGN: u32 = 0xf0;

    const NAMES: [(LeaderFlags, &'static str); 8] = [
        (LeaderFlags::SHORT_HOLD, "SHORT_HOLD"),
        (LeaderFlags::NO_TIMEOUT, "NO_TIMEOUT"),
        (LeaderFlags::DEAD_EXT, "DEAD_EXT"),
        (LeaderFlags::CAW, "CAW"),
        (LeaderFlags::ALIGN_1M, "ALIGN_1M"),
        (LeaderFlags::ALIGN_2M, "ALIGN_2M"),
        (LeaderFlags::ALIGN_4M, "ALIGN_4M"),
        (LeaderFlags::ALIGN_8M, "ALIGN_8M"),
    ];

    /// The bit of an align size.
    pub const fn of_align(align: AlignSize) -> LeaderFlags {
        match align {
            AlignSize::M1 => LeaderFlags::ALIGN_1M,
            AlignSize::M2 => LeaderFlags::ALIGN_2M,
            AlignSize::M4 => LeaderFlags::ALIGN_4M,
            AlignSize::M8 => LeaderFlags::ALIGN_8M,
        }
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: LeaderFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// With these bits set.
    #[must_use]
    pub const fn with(self, other: LeaderFlags) -> LeaderFlags {
        LeaderFlags(self.0 | other.0)
    }

    /// With these bits cleared.
    #[must_use]
    pub const fn without(self, other: LeaderFlags) -> LeaderFlags {
        LeaderFlags(self.0 & !other.0)
    }

    /// The bits that say something else than an align size.
    pub const fn without_align(self) -> LeaderFlags {
        LeaderFlags(self.0 & !LeaderFlags::ALIGN)
    }

    /// The geometry that these flags mean with this sector size. Areas made before sanlock 3.7 have no align bit and
    /// mean the default. `None`: several align bits, or a pair that does not exist.
    pub fn geometry(self, sector: SectorSize) -> Option<Geometry> {
        let stated = self.0 & LeaderFlags::ALIGN;
        if stated == 0 {
            return Some(Geometry::default_for(sector));
        }
        let align = AlignSize::ALL
            .into_iter()
            .find(|&align| LeaderFlags::of_align(align).0 == stated)?;
        Geometry::new(sector, align).ok()
    }

    /// Names of the bits that are set, lowest first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        LeaderFlags::NAMES
            .into_iter()
            .filter(move |&(flag, _)| self.contains(flag))
            .map(|(_, name)| name)
    }
}

impl fmt::Debug for LeaderFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} [", self.0)?;
        for name in self.names() {
            write!(f, " {name}")?;
        }
        write!(f, " ]")
    }
}
