//! Sets of flags. Bits without a name are kept: the real daemon does not look at them either.

use lockmgr::ondisk::{AlignSize, Geometry, SectorSize};

/// Declares a set of flags of 32 bits.
macro_rules! flags {
    ($(#[$doc:meta])* $set:ident { $($(#[$bit_doc:meta])* $bit:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $set(pub u32);

        impl $set {
            $($(#[$bit_doc])* pub const $bit: $set = $set($value);)+

            /// Whether all bits of `other` are set.
            pub const fn contains(self, other: $set) -> bool {
                self.0 & other.0 == other.0
            }

            /// With these bits set.
            #[must_use]
            pub const fn with(self, other: $set) -> $set {
                $set(self.0 | other.0)
            }

            /// With these bits cleared.
            #[must_use]
            pub const fn without(self, other: $set) -> $set {
                $set(self.0 & !other.0)
            }
        }

        impl std::fmt::Debug for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:#x} [", self.0)?;
                $(if self.contains($set::$bit) { write!(f, " {}", stringify!($bit))?; })+
                write!(f, " ]")
            }
        }
    };
}

/// The bits that name a geometry; the same in lockspaces, resources and indexes.
const ALIGN: [(u32, AlignSize); 4] = [
    (0x10, AlignSize::M1),
    (0x20, AlignSize::M2),
    (0x40, AlignSize::M4),
    (0x80, AlignSize::M8),
];
const SECTOR: [(u32, SectorSize); 2] = [(0x100, SectorSize::B512), (0x200, SectorSize::B4096)];
pub(super) const GEOMETRY_MASK: u32 = 0x3f0;

/// Only one of sector size and align size, several of one, or a pair that does not exist. The call fails with −1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadGeometry;

/// The geometry that the bits name; `None` where they name none.
pub(super) fn geometry(bits: u32) -> Result<Option<Geometry>, BadGeometry> {
    let stated = bits & GEOMETRY_MASK;
    if stated == 0 {
        return Ok(None);
    }
    let found = Geometry::ALL
        .into_iter()
        .find(|&geometry| of_geometry(geometry) == stated);
    found.map(Some).ok_or(BadGeometry)
}

/// The bits of a geometry.
pub(super) fn of_geometry(geometry: Geometry) -> u32 {
    let align = ALIGN.iter().find(|(_, align)| *align == geometry.align());
    let sector = SECTOR
        .iter()
        .find(|(_, sector)| *sector == geometry.sector());
    match (align, sector) {
        (Some((align, _)), Some((sector, _))) => align | sector,
        _ => unreachable!("every size has its bit"),
    }
}

/// Gives a set the geometry bits.
macro_rules! with_geometry {
    ($set:ident) => {
        impl $set {
            /// The geometry that is named, if one is.
            pub fn geometry(self) -> Result<Option<Geometry>, BadGeometry> {
                geometry(self.0)
            }

            /// With the bits of this geometry, and of no other.
            #[must_use]
            pub fn with_geometry(self, geometry: Geometry) -> $set {
                $set(self.0 & !GEOMETRY_MASK | of_geometry(geometry))
            }
        }
    };
}

flags! {
    /// Flags of a resource.
    ResourceFlags {
        /// `lver` is a demand: acquire only this version.
        LVER = 0x1,
        /// `data32` is a new number of hosts, to be written into the leader by an acquisition.
        NUM_HOSTS = 0x2,
        /// Held, or to be held, shared.
        SHARED = 0x4,
        /// Kept as an orphan when its client goes.
        PERSISTENT = 0x8,
        /// Areas of 1 MiB.
        ALIGN_1M = 0x10,
        /// Areas of 2 MiB.
        ALIGN_2M = 0x20,
        /// Areas of 4 MiB.
        ALIGN_4M = 0x40,
        /// Areas of 8 MiB.
        ALIGN_8M = 0x80,
        /// Sectors of 512 bytes.
        SECTOR_512 = 0x100,
        /// Sectors of 4096 bytes.
        SECTOR_4K = 0x200,
    }
}
with_geometry!(ResourceFlags);

flags! {
    /// Flags of a lockspace.
    LockspaceFlags {
        /// Listed: it is being joined.
        ADD = 0x1,
        /// Listed: it is being left.
        REM = 0x2,
        /// sanlock 5: silence never makes its hosts dead.
        NO_TIMEOUT = 0x4,
        /// Areas of 1 MiB.
        ALIGN_1M = 0x10,
        /// Areas of 2 MiB.
        ALIGN_2M = 0x20,
        /// Areas of 4 MiB.
        ALIGN_4M = 0x40,
        /// Areas of 8 MiB.
        ALIGN_8M = 0x80,
        /// Sectors of 512 bytes.
        SECTOR_512 = 0x100,
        /// Sectors of 4096 bytes.
        SECTOR_4K = 0x200,
    }
}
with_geometry!(LockspaceFlags);

flags! {
    /// Flags of a resource index.
    RindexFlags {
        /// Areas of 1 MiB.
        ALIGN_1M = 0x10,
        /// Areas of 2 MiB.
        ALIGN_2M = 0x20,
        /// Areas of 4 MiB.
        ALIGN_4M = 0x40,
        /// Areas of 8 MiB.
        ALIGN_8M = 0x80,
        /// Sectors of 512 bytes.
        SECTOR_512 = 0x100,
        /// Sectors of 4096 bytes.
        SECTOR_4K = 0x200,
    }
}
with_geometry!(RindexFlags);

flags! {
    /// Command flags of ACQUIRE and ACQUIRE2.
    AcquireFlags {
        /// Keep the lock value block in memory.
        LVB = 0x1,
        /// Adopt an orphan, if there is one.
        ORPHAN = 0x2,
        /// Only adopt an orphan.
        ORPHAN_ONLY = 0x4,
        /// Do not wait for the death of an owner.
        OWNER_NOWAIT = 0x8,
        /// `data2` is a client number, not a process id.
        FOR_CLIENT_ID = 0x10,
    }
}

flags! {
    /// Command flags of RELEASE.
    ReleaseFlags {
        /// Everything the client holds; no resource follows.
        ALL = 0x1,
        /// Two resources: what is held, and its name from now on.
        RENAME = 0x2,
        /// An orphan; without a name, all orphans of the lockspace.
        ORPHAN = 0x4,
        /// sanlock 5: leave the disk as it is.
        NO_DISK = 0x8,
        /// `data2` is a client number, not a process id.
        FOR_CLIENT_ID = 0x10,
    }
}

flags! {
    /// Command flags of CONVERT.
    ConvertFlags {
        /// Do not wait for the death of an owner.
        OWNER_NOWAIT = 0x8,
        /// `data2` is a client number, not a process id.
        FOR_CLIENT_ID = 0x10,
    }
}

flags! {
    /// Command flags of ADD_LOCKSPACE.
    AddFlags {
        /// Answer at once.
        ASYNC = 0x1,
        /// Skip the short delay where that is safe.
        NODELAY = 0x2,
        /// sanlock 5: without a watchdog.
        NO_WATCHDOG = 0x4,
    }
}

flags! {
    /// Command flags of REM_LOCKSPACE.
    RemFlags {
        /// Answer at once.
        ASYNC = 0x1,
        /// Only if nothing is held there.
        UNUSED = 0x2,
    }
}

flags! {
    /// Command flags of INQ_LOCKSPACE.
    InqFlags {
        /// Wait until adding or removing is over.
        WAIT = 0x1,
    }
}

flags! {
    /// Command flags of GET_HOSTS.
    HostsFlags {
        /// Only this host.
        LOCAL = 0x1,
    }
}

flags! {
    /// Command flags of RESTRICT.
    RestrictFlags {
        /// No command any more.
        ALL = 0x1,
        /// SIGTERM in place of SIGKILL.
        SIGKILL = 0x2,
        /// SIGKILL in place of SIGTERM.
        SIGTERM = 0x4,
    }
}

flags! {
    /// Command flags of KILLPATH.
    KillpathFlags {
        /// The process id is the last argument.
        PID = 0x1,
    }
}

flags! {
    /// Command flags of WRITE_LOCKSPACE.
    WriteLockspaceFlags {
        /// sanlock 5: only update the NO_TIMEOUT flag.
        NO_TIMEOUT_ONLY = 0x1,
        /// sanlock 5: with COMPARE AND WRITE.
        USE_CAW = 0x2,
        /// sanlock 5: without COMPARE AND WRITE.
        NO_CAW = 0x4,
    }
}

flags! {
    /// Command flags of WRITE_RESOURCE.
    WriteResourceFlags {
        /// Delete it.
        CLEAR = 0x1,
        /// sanlock 5: with COMPARE AND WRITE.
        USE_CAW = 0x2,
        /// sanlock 5: without COMPARE AND WRITE.
        NO_CAW = 0x4,
    }
}

flags! {
    /// Command flags of REQUEST.
    AskFlags {
        /// Ask for the version after the owner's.
        NEXT_LVER = 0x1,
    }
}

flags! {
    /// Command flags of SET_EVENT.
    EventFlags {
        /// To whatever generation the host has.
        CUR_GENERATION = 0x1,
        /// Call this host no more.
        CLEAR_HOSTID = 0x2,
        /// Withdraw the event.
        CLEAR_EVENT = 0x4,
        /// Replace an event that is still being told.
        REPLACE = 0x8,
        /// To every host.
        ALL_HOSTS = 0x10,
    }
}

flags! {
    /// What SET_CONFIG sets: its `data`.
    ConfigFlags {
        /// The lockspace is in use: it cannot be removed.
        USED = 0x1,
        /// It is not in use any more.
        UNUSED = 0x2,
        /// It is in use while it has orphans.
        USED_BY_ORPHANS = 0x4,
        /// Orphans do not count any more.
        UNUSED_BY_ORPHANS = 0x8,
        /// sanlock 5: `data2` is a new I/O timeout in seconds.
        IO_TIMEOUT = 0x10,
    }
}

flags! {
    /// Command flags of the resource index commands.
    IndexFlags {
        /// Without a lockspace: without the lease that guards the index.
        NO_LOCKSPACE = 0x1,
        /// UPDATE: add the entry.
        ADD = 0x10000,
        /// UPDATE: remove the entry.
        REM = 0x20000,
    }
}
