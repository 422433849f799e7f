//! Texts within messages: a resource or a lockspace as one string, and what states say of themselves.
//!
//! Of a state's text clients parse `list=` alone, for what is joined, being joined or left, held, acquired, released or
//! orphaned. The rest is for people: keys and order are those of sanlock 3.9.5, so that their scripts go on working.

use std::fmt;
use std::os::unix::ffi::OsStrExt;

use lockmgr::RENEWALS_KEPT;
use lockmgr::ondisk::{Geometry, Name};

use super::flags::RestrictFlags;
use super::reply::VERSION_NUMBER;
use super::structs::{Disk, Lockspace, PlacedResource};

/// The last word of a resource string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Alone, in this version of the lease.
    Exclusive {
        /// The version.
        lver: u64,
    },
    /// With others.
    Shared,
}

/// `lockspace:resource:path:offset[:path:offset…]:lver`, or `:SH` in the place of the version.
pub fn resource(placed: &PlacedResource, held: Held) -> Vec<u8> {
    let mut text = placed.resource.lockspace.as_bytes().to_vec();
    text.push(b':');
    text.extend(placed.resource.name.as_bytes());
    for disk in &placed.disks {
        text.push(b':');
        place(&mut text, disk);
    }
    text.extend(match held {
        Held::Exclusive { lver } => format!(":{lver}").into_bytes(),
        Held::Shared => b":SH".to_vec(),
    });
    text
}

/// `name:host_id:path:offset`.
pub fn lockspace(lockspace: &Lockspace) -> Vec<u8> {
    let mut text = lockspace.name.as_bytes().to_vec();
    text.extend(format!(":{}:", lockspace.host_id).into_bytes());
    place(&mut text, &lockspace.disk);
    text
}

/// `path:offset`. Whoever reads it splits at colons, and at blanks before that.
fn place(text: &mut Vec<u8>, disk: &Disk) {
    for &byte in disk.path.as_bytes() {
        if matches!(byte, b':' | b' ') {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text.extend(format!(":{}", disk.offset).into_bytes());
}

/// What STATUS says of the daemon. Settings of the real one that ours does not have are said to be as they are by default.
#[derive(Clone, Copy, Debug)]
pub struct DaemonText {
    /// The name of this host in lockspaces.
    pub host_name: Name,
    /// Whether something stops the writes of this host in time.
    pub use_watchdog: bool,
    /// Whose socket it is.
    pub gid: u32,
    /// Whose socket it is.
    pub uid: u32,
    /// Most threads that wait for disks.
    pub max_worker_threads: u32,
    /// How many there are.
    pub num_worker_threads: u32,
    /// What lockspaces get that ask for none, in seconds.
    pub io_timeout: u32,
    /// Seconds from a kill path to SIGKILL.
    pub kill_grace_seconds: u32,
    /// The process that runs kill paths, or -1.
    pub helper_pid: i32,
    /// Seconds of the monotonic clock.
    pub monotime: u64,
}

impl fmt::Display for DaemonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch, _] = VERSION_NUMBER.to_be_bytes();
        write!(
            f,
            "our_host_name={} use_watchdog={} high_priority=0 mlock_level=0 quiet_fail=1 debug_renew=0 debug_hosts=0 \
             debug_clients=0 debug_cmds=0x0 renewal_history_size={RENEWALS_KEPT} gid={} uid={} sh_retries=8 \
             max_sectors_kb_ignore=0 max_sectors_kb_align=0 max_sectors_kb_num=1024 max_worker_threads={} \
             num_worker_threads={} use_hugepages=none write_init_io_timeout=60 use_aio=1 io_timeout={} \
             watchdog_fire_timeout=60 kill_grace_seconds={} helper_pid={} helper_kill_fd=-1 helper_full_count=0 \
             helper_last_status=0 monotime={} version_str={major}.{minor}.{patch} version_num={major}.{minor}.{patch} \
             version_hex={VERSION_NUMBER:08x} smproto_hex={:08x}",
            self.host_name,
            u8::from(self.use_watchdog),
            self.gid,
            self.uid,
            self.max_worker_threads,
            self.num_worker_threads,
            self.io_timeout,
            self.kill_grace_seconds,
            self.helper_pid,
            self.monotime,
            super::header::PROTOCOL,
        )
    }
}

/// What STATUS says of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientText {
    /// Its number.
    pub ci: u32,
    /// Its descriptor.
    pub fd: i32,
    /// Its process, or -1 where it is not registered.
    pub pid: i32,
    /// Not named by the real one.
    pub flags: u32,
    /// What it was restricted to.
    pub restricted: RestrictFlags,
    /// The command that runs, or 0.
    pub cmd_active: u32,
    /// The last one, or 0.
    pub cmd_last: u32,
    /// Whether the process is gone.
    pub pid_dead: bool,
    /// Signals sent.
    pub kill_count: u32,
    /// When the last one was; seconds of the monotonic clock.
    pub kill_last: u64,
    /// Whether it is not listened to, because a command runs.
    pub suspend: bool,
    /// Whether it goes when that is over.
    pub need_free: bool,
}

impl fmt::Display for ClientText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ci={} fd={} pid={} flags={:x} restricted={:x} cmd_active={} cmd_last={} pid_dead={} kill_count={} \
             kill_last={} suspend={} need_free={}",
            self.ci,
            self.fd,
            self.pid,
            self.flags,
            self.restricted.0,
            self.cmd_active,
            self.cmd_last,
            u8::from(self.pid_dead),
            self.kill_count,
            self.kill_last,
            u8::from(self.suspend),
            u8::from(self.need_free),
        )
    }
}

/// Where a lockspace is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockspaceList {
    /// Joined.
    Joined,
    /// Being joined: the tool prints ADD.
    Adding,
    /// Being left: the tool prints REM.
    Removing,
}

/// What STATUS says of a lockspace. Times are seconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct LockspaceText {
    /// Where it is listed.
    pub list: LockspaceList,
    /// Its number in logs.
    pub space_id: u32,
    /// Seconds.
    pub io_timeout: u32,
    /// None until its area was read.
    pub geometry: Option<Geometry>,
    /// Ours.
    pub host_generation: u64,
    /// Whether renewals have failed for too long.
    pub renew_fail: bool,
    /// Whether it is given up.
    pub space_dead: bool,
    /// Whether clients that use it are being ended.
    pub killing_pids: bool,
    /// How often it was in use when it was to be left.
    pub used_retries: u32,
    /// Whether SET_CONFIG said that it is in use.
    pub external_used: bool,
    /// Whether orphans keep it in use.
    pub used_by_orphans: bool,
    /// What a renewal found wrong, or 0.
    pub corrupt_result: i32,
    /// 1, or the number by which joining failed.
    pub acquire_last_result: i32,
    /// 1, or the number by which the last renewal failed.
    pub renewal_last_result: i32,
    /// When joining was begun.
    pub acquire_last_attempt: u64,
    /// When it succeeded.
    pub acquire_last_success: u64,
    /// When the last renewal was begun.
    pub renewal_last_attempt: u64,
    /// When the last one that succeeded was.
    pub renewal_last_success: u64,
}

/// Bytes of a sector and of an area, or zeros.
fn sizes(geometry: Option<Geometry>) -> (usize, u64) {
    geometry.map_or((0, 0), |g| (g.sector_bytes(), g.area_bytes()))
}

impl fmt::Display for LockspaceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = match self.list {
            LockspaceList::Joined => "spaces",
            LockspaceList::Adding => "add",
            LockspaceList::Removing => "rem",
        };
        let (sector_size, align_size) = sizes(self.geometry);
        write!(
            f,
            "list={list} space_id={} io_timeout={} sector_size={sector_size} align_size={align_size} \
             host_generation={} renew_fail={} space_dead={} killing_pids={} used_retries={} external_used={} \
             used_by_orphans={} renewal_read_extend_sec={} set_max_sectors_kb=0 corrupt_result={} \
             acquire_last_result={} renewal_last_result={} acquire_last_attempt={} acquire_last_success={} \
             renewal_last_attempt={} renewal_last_success={}",
            self.space_id,
            self.io_timeout,
            self.host_generation,
            u8::from(self.renew_fail),
            u8::from(self.space_dead),
            u8::from(self.killing_pids),
            self.used_retries,
            u8::from(self.external_used),
            u8::from(self.used_by_orphans),
            // A renewal read may take as long again as any other.
            self.io_timeout,
            self.corrupt_result,
            self.acquire_last_result,
            self.renewal_last_result,
            self.acquire_last_attempt,
            self.acquire_last_success,
            self.renewal_last_attempt,
            self.renewal_last_success,
        )
    }
}

/// Where a resource is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResourceList {
    /// Held.
    Held,
    /// Being acquired: the tool prints ADD.
    Adding,
    /// Being released: the tool prints REM.
    Removing,
    /// Held for nobody: the tool prints ORPHAN.
    Orphan,
}

/// What STATUS says of a resource in the hands of a client.
#[derive(Clone, Copy, Debug)]
pub struct ResourceText {
    /// Where it is listed.
    pub list: ResourceList,
    /// Whether it is held shared.
    pub shared: bool,
    /// Whether its lock value block is kept in memory.
    pub lvb: bool,
    /// None until its area was read.
    pub geometry: Option<Geometry>,
    /// Version of the lease.
    pub lver: u64,
    /// How often the daemon found it held by itself.
    pub reused: u32,
    /// Its number in logs.
    pub res_id: u32,
    /// Number of the client's share in it; 0 for an orphan.
    pub token_id: u32,
    /// Number of the client.
    pub ci: i32,
}

impl fmt::Display for ResourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = match self.list {
            ResourceList::Held => "held",
            ResourceList::Adding => "add",
            ResourceList::Removing => "rem",
            ResourceList::Orphan => "orphan",
        };
        let (sector_size, align_size) = sizes(self.geometry);
        write!(
            f,
            "list={list} flags={:x} sector_size={sector_size} align_size={align_size} lver={} reused={} res_id={} \
             token_id={} ci={}",
            u8::from(self.shared) | u8::from(self.lvb) << 5,
            self.lver,
            self.reused,
            self.res_id,
            self.token_id,
            self.ci,
        )
    }
}

/// What HOST_STATUS says of a host. Times of looks are seconds of our monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct HostText {
    /// When its slot was read last.
    pub last_check: u64,
    /// When it had changed last.
    pub last_live: u64,
    /// When it last asked us to look at request records.
    pub last_req: u64,
    /// Its number.
    pub owner_id: u64,
    /// Its generation.
    pub owner_generation: u64,
    /// Seconds of its own clock.
    pub timestamp: u64,
    /// Seconds.
    pub io_timeout: u32,
    /// Its name.
    pub owner_name: Name,
}

impl fmt::Display for HostText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "last_check={} last_live={} last_req={} owner_id={} owner_generation={} timestamp={} io_timeout={} \
             owner_name={}",
            self.last_check,
            self.last_live,
            self.last_req,
            self.owner_id,
            self.owner_generation,
            self.timestamp,
            self.io_timeout,
            self.owner_name,
        )
    }
}

/// What RENEWAL says of one renewal.
#[derive(Clone, Copy, Debug)]
pub struct RenewalText {
    /// Seconds of the monotonic clock.
    pub timestamp: u64,
    /// How long reading took, in ms.
    pub read_ms: u32,
    /// How long writing took, in ms.
    pub write_ms: u32,
    /// How many tries after it timed out.
    pub next_timeouts: u32,
    /// How many failed otherwise.
    pub next_errors: u32,
}

impl fmt::Display for RenewalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "timestamp={} read_ms={} write_ms={} next_timeouts={} next_errors={}",
            self.timestamp, self.read_ms, self.write_ms, self.next_timeouts, self.next_errors
        )
    }
}
