//! The numbers by which a request is refused: negative ones of Linux, and sanlock's own.
//!
//! Clients act on them. What lvmlockd takes for *in use elsewhere* it tries again, where it expects the end of the device it
//! finds it, and the rest is an error of the lock manager to it.

use std::fmt;

use lockmgr::ondisk::{BadRecord, CannotJoin, Problem, Record};
use lockmgr::{JoinError, LeaseError};

/// Declares the refusals with their numbers.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)+) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(i32)]
        pub enum Refusal {
            $($(#[$doc])* $name = $number,)+
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$name),+];
        }
    };
}

refusals! {
    /// Something is wrong, and no other number says what: a lease that is not held, flags that do not fit.
    Failed = -1,
    /// ENOENT: no such lockspace, lease or orphan.
    NotFound = -2,
    /// ESRCH: no registered client has this process id.
    NoProcess = -3,
    /// EIO.
    Io = -5,
    /// E2BIG: too many resources, or a lock value block that has no room.
    TooBig = -7,
    /// EAGAIN: other hosts share it; or something is under way; or nothing is known yet.
    Again = -11,
    /// ENOMEM.
    NoMemory = -12,
    /// EACCES.
    Access = -13,
    /// EBUSY: not registered; or another command of this client is running; or in use.
    Busy = -16,
    /// EEXIST: joined or held already.
    Exists = -17,
    /// ENODEV: the device cannot be opened.
    NoDevice = -19,
    /// EINVAL.
    Invalid = -22,
    /// ENOSPC: the lockspace is unknown or failed; of writes, the device ends before.
    NoSpace = -28,
    /// ERANGE: no disk, or more than four.
    Range = -34,
    /// ENOSYS: not offered.
    NotOffered = -38,
    /// ENOCSI: too many event connections.
    NoMoreEvents = -50,
    /// EMSGSIZE: of reads, the device ends before.
    MessageSize = -90,
    /// ENOTCONN: the client went away in the middle.
    NotConnected = -107,
    /// EALREADY: held in this mode already.
    Already = -114,
    /// EINPROGRESS: being joined, or left.
    InProgress = -115,
    /// ESTALE: the client is dead.
    Stale = -116,
    /// EUCLEAN: an orphan of this name exists, and was not asked for or not in this mode.
    Unclean = -117,

    /// SANLK_ERROR.
    Error = -201,
    /// SANLK_AIO_TIMEOUT: the disk did not answer in time.
    AioTimeout = -202,
    /// SANLK_WD_ERROR: nothing would stop the writes of this host in time.
    WdError = -203,
    /// SANLK_DBLOCK_READ.
    DblockRead = -210,
    /// SANLK_DBLOCK_WRITE.
    DblockWrite = -211,
    /// SANLK_DBLOCK_LVER: another host won meanwhile.
    DblockLver = -212,
    /// SANLK_DBLOCK_MBAL: another host is about to.
    DblockMbal = -213,
    /// SANLK_DBLOCK_CHECKSUM.
    DblockChecksum = -214,
    /// SANLK_LEADER_READ.
    LeaderRead = -220,
    /// SANLK_LEADER_WRITE.
    LeaderWrite = -221,
    /// SANLK_LEADER_DIFF.
    LeaderDiff = -222,
    /// SANLK_LEADER_MAGIC: nothing was formatted there, or something else.
    LeaderMagic = -223,
    /// SANLK_LEADER_VERSION.
    LeaderVersion = -224,
    /// SANLK_LEADER_SECTORSIZE.
    LeaderSectorSize = -225,
    /// SANLK_LEADER_LOCKSPACE: it belongs to another lockspace.
    LeaderLockspace = -226,
    /// SANLK_LEADER_RESOURCE: it is another resource.
    LeaderResource = -227,
    /// SANLK_LEADER_NUMHOSTS: it has no room for this host.
    LeaderNumHosts = -228,
    /// SANLK_LEADER_CHECKSUM.
    LeaderChecksum = -229,
    /// SANLK_ADDLS_SIZES.
    AddSizes = -230,
    /// SANLK_ADDLS_INVALID_HOSTID.
    AddInvalidHostId = -231,
    /// SANLK_ACQUIRE_LVER: not the version that was demanded.
    AcquireLver = -240,
    /// SANLK_ACQUIRE_LOCKSPACE.
    AcquireLockspace = -241,
    /// SANLK_ACQUIRE_IDDISK.
    AcquireIdDisk = -242,
    /// SANLK_ACQUIRE_IDLIVE: its owner lives.
    AcquireIdLive = -243,
    /// SANLK_ACQUIRE_OWNED: another host was faster.
    AcquireOwned = -244,
    /// SANLK_ACQUIRE_OTHER: ours was the ballot, another's the lease.
    AcquireOther = -245,
    /// SANLK_ACQUIRE_SHRETRY: others kept passing through.
    AcquireShRetry = -246,
    /// SANLK_ACQUIRE_OWNED_RETRY: its owner is silent, but not for long enough.
    AcquireOwnedRetry = -247,
    /// SANLK_ACQUIRE_OWNED_NO_TIMEOUT: its owner is silent, and never dead by that.
    AcquireOwnedNoTimeout = -249,
    /// SANLK_RELEASE_LVER, by its number before sanlock 5.
    ReleaseLver = -250,
    /// SANLK_RELEASE_OWNER, by its number before sanlock 5: another host owns it.
    ReleaseOwner = -251,
    /// SANLK_RENEW_OWNER.
    RenewOwner = -260,
    /// SANLK_RENEW_DIFF.
    RenewDiff = -261,
    /// SANLK_HOSTID_BUSY: another machine has this host id.
    HostIdBusy = -262,
    /// SANLK_REQUEST_MAGIC.
    RequestMagic = -270,
    /// SANLK_REQUEST_VERSION.
    RequestVersion = -271,
    /// SANLK_REQUEST_OLD: the owner has this version already.
    RequestOld = -272,
    /// SANLK_REQUEST_LVER: somebody asked for a later one.
    RequestLver = -273,
    /// SANLK_RINDEX_MAGIC.
    RindexMagic = -274,
    /// SANLK_RINDEX_VERSION.
    RindexVersion = -275,
    /// SANLK_RINDEX_LOCKSPACE.
    RindexLockspace = -276,
    /// SANLK_RINDEX_OFFSET.
    RindexOffset = -277,
    /// SANLK_RINDEX_DIFF.
    RindexDiff = -278,
    /// SANLK_WRONG_GENERATION.
    WrongGeneration = -280,
}

impl Refusal {
    /// As it is sent: negative.
    pub const fn value(self) -> i32 {
        self as i32
    }
}

/// As logs and the real tools show it.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(f)
    }
}

impl std::error::Error for Refusal {}

/// Which field of which record is at fault.
impl From<BadRecord> for Refusal {
    fn from(bad: BadRecord) -> Refusal {
        use Refusal as R;
        match (bad.record, bad.problem) {
            (Record::Dblock, Problem::Checksum { .. }) => R::DblockChecksum,
            (Record::Dblock, _) => R::DblockRead,
            (Record::Request, Problem::Version { .. }) => R::RequestVersion,
            (Record::Request, _) => R::RequestMagic,
            (Record::RindexHeader | Record::RindexEntry, problem) => match problem {
                Problem::Version { .. } => R::RindexVersion,
                Problem::Name { .. } => R::RindexLockspace,
                Problem::Value { .. } | Problem::OtherGeometry { .. } => R::RindexOffset,
                Problem::Magic { .. } | Problem::Cleared => R::RindexMagic,
                _ => R::RindexDiff,
            },
            (Record::DeltaLease | Record::PaxosLeader, problem) => match problem {
                Problem::Short { .. } => R::LeaderRead,
                Problem::Magic { .. } | Problem::Cleared => R::LeaderMagic,
                // A version of before or after ours would not have these flags, or would know them.
                Problem::Version { .. } | Problem::Flags { .. } => R::LeaderVersion,
                Problem::Checksum { .. } => R::LeaderChecksum,
                Problem::NotForHost { .. } => R::LeaderNumHosts,
                Problem::OtherGeometry { .. } => R::LeaderSectorSize,
                Problem::Name { .. } if bad.field.name == "resource_name" => R::LeaderResource,
                Problem::Name { .. } => R::LeaderLockspace,
                Problem::Value { .. } => match bad.field.name {
                    "sector_size" => R::LeaderSectorSize,
                    "num_hosts" | "max_hosts" => R::LeaderNumHosts,
                    _ => R::LeaderDiff,
                },
            },
        }
    }
}

impl From<CannotJoin> for Refusal {
    fn from(cannot: CannotJoin) -> Refusal {
        match cannot {
            // What the sanlock that we say to be makes of such an area, whose version it does not know.
            CannotJoin::CompareAndWrite(_) => Refusal::LeaderVersion,
        }
    }
}

/// Of an acquisition. Where another command means something else by it, its server says so: a conversion to the mode that is
/// held is [`Refusal::Already`].
impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Refusal {
        match error {
            LeaseError::Bad(bad) => bad.into(),
            LeaseError::Cannot(cannot) => cannot.into(),
            LeaseError::HeldBy { .. } => Refusal::AcquireIdLive,
            LeaseError::OwnerSilent { .. } => Refusal::AcquireOwnedRetry,
            LeaseError::OwnerNeverDies { .. } => Refusal::AcquireOwnedNoTimeout,
            LeaseError::SharedBy { .. } => Refusal::Again,
            // Not SHRETRY, which lvmlockd takes for an error: this one it tries again.
            LeaseError::Contended => Refusal::AcquireOwned,
            LeaseError::Io => Refusal::AioTimeout,
            LeaseError::LockspaceLost | LeaseError::NotJoined => Refusal::NoSpace,
            LeaseError::Cancelled => Refusal::Stale,
            LeaseError::Taken => Refusal::ReleaseOwner,
            LeaseError::NotExclusive => Refusal::Invalid,
            LeaseError::NoRoomForLvb => Refusal::TooBig,
            LeaseError::Busy => Refusal::Busy,
            LeaseError::AlreadyHeld => Refusal::Exists,
            LeaseError::NotHeld => Refusal::Failed,
        }
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Refusal {
        match error {
            JoinError::Bad(bad) => bad.into(),
            JoinError::Cannot(cannot) => cannot.into(),
            JoinError::HostIdBusy { .. } | JoinError::SlotTaken => Refusal::HostIdBusy,
            JoinError::Io => Refusal::AioTimeout,
            // The gate is what a watchdog is to the real one.
            JoinError::GateShut => Refusal::WdError,
        }
    }
}
