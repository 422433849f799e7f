//! What a client may ask for: one variant per command, its fields taken out of header and body.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use lockmgr::ondisk::RawLeader;

use super::bytes::At;
use super::flags::{
    AcquireFlags, AddFlags, AskFlags, ConfigFlags, ConvertFlags, EventFlags, HostsFlags,
    IndexFlags, InqFlags, KillpathFlags, ReleaseFlags, RemFlags, RestrictFlags,
    WriteLockspaceFlags, WriteResourceFlags,
};
use super::header::{Command, HEADER_LEN, Header};
use super::result::Refusal;
use super::structs::{
    Disk, Host, HostEvent, Lockspace, MAX_DISKS, Options, PlacedResource, Rentry, Resource, Rindex,
};

/// Most resources of one ACQUIRE.
pub const MAX_RESOURCES: usize = 8;

/// Most resources of one RELEASE. The real daemon has no limit; ours keeps a request in memory as a whole.
pub const MAX_RELEASED: usize = 256;

/// Longest lock value block: a sector.
pub const MAX_LVB: usize = 4096;

/// Bytes of a kill path, and of its arguments, with the NUL.
pub const KILLPATH_LEN: usize = 128;

/// Bytes of the leader record that INIT_LOCKSPACE_HOST carries.
const LEADER_LEN: usize = 200;

/// Whose leases a command is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Whose {
    /// Those of the connection it came on, which must be registered.
    Callers,
    /// Those of the first registered connection of this process.
    Process(i32),
    /// Those of the client with this number (`ci` in status).
    Client(i32),
}

impl Whose {
    fn of(header: &Header) -> Whose {
        match header.data2 {
            -1 => Whose::Callers,
            ci if header.flags & AcquireFlags::FOR_CLIENT_ID.0 != 0 => Whose::Client(ci),
            pid => Whose::Process(pid),
        }
    }
}

/// What RELEASE is to release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Release {
    /// Everything.
    All,
    /// These.
    These(Vec<Resource>),
    /// One, which gets another name by it.
    Rename {
        /// What is held.
        held: Resource,
        /// Its name from now on.
        renamed: Resource,
    },
    /// An orphan; without a resource name all orphans of the lockspace. Answered with their number.
    Orphan(Resource),
}

/// A request. Numbers of the header that a command does not use are not looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "fields are structs that say what they are")]
pub enum Request {
    Register,
    /// `io_timeout` in seconds, 0 for the usual.
    AddLockspace {
        flags: AddFlags,
        lockspace: Lockspace,
        io_timeout: u32,
    },
    RemLockspace {
        flags: RemFlags,
        lockspace: Lockspace,
    },
    Shutdown {
        force: bool,
    },
    Status(StatusOf),
    LogDump,
    Acquire {
        flags: AcquireFlags,
        whose: Whose,
        resources: Vec<PlacedResource>,
        options: Options,
    },
    Release {
        flags: ReleaseFlags,
        whose: Whose,
        what: Release,
    },
    Inquire {
        whose: Whose,
    },
    Restrict {
        flags: RestrictFlags,
        whose: Whose,
    },
    /// `force_mode` as in a request record.
    Request {
        flags: AskFlags,
        placed: PlacedResource,
        force_mode: u32,
    },
    Align(Disk),
    ExamineLockspace(Lockspace),
    ExamineResource(Resource),
    HostStatus(Lockspace),
    InqLockspace {
        flags: InqFlags,
        lockspace: Lockspace,
    },
    Killpath {
        flags: KillpathFlags,
        whose: Whose,
        path: OsString,
        /// As one string: split at blanks, a backslash escapes a blank and itself.
        args: OsString,
    },
    /// `io_timeout` in seconds, 0 for the usual.
    WriteLockspace {
        flags: WriteLockspaceFlags,
        lockspace: Lockspace,
        io_timeout: u32,
    },
    /// `num_hosts` 0: as many as the area has room for.
    WriteResource {
        flags: WriteResourceFlags,
        placed: PlacedResource,
        num_hosts: u32,
    },
    ReadLockspace(Lockspace),
    ReadResource(PlacedResource),
    GetLockspaces,
    GetHosts {
        flags: HostsFlags,
        lockspace: Lockspace,
    },
    ReadResourceOwners(PlacedResource),
    SetLvb {
        resource: Resource,
        lvb: Vec<u8>,
    },
    /// `len` bytes are wanted; 0: a sector.
    GetLvb {
        resource: Resource,
        len: u32,
    },
    Convert {
        flags: ConvertFlags,
        whose: Whose,
        resource: Resource,
    },
    Version,
    ShutdownWait {
        force: bool,
    },
    RegEvent(Lockspace),
    EndEvent(Lockspace),
    SetEvent {
        flags: EventFlags,
        lockspace: Lockspace,
        event: HostEvent,
    },
    /// `io_timeout` counts with flag IO_TIMEOUT only.
    SetConfig {
        lockspace: Lockspace,
        config: ConfigFlags,
        io_timeout: u32,
    },
    Renewal(Lockspace),
    FormatRindex {
        flags: IndexFlags,
        rindex: Rindex,
    },
    UpdateRindex {
        flags: IndexFlags,
        rindex: Rindex,
        entry: Rentry,
    },
    LookupRindex {
        flags: IndexFlags,
        rindex: Rindex,
        entry: Rentry,
    },
    CreateResource {
        flags: IndexFlags,
        rindex: Rindex,
        entry: Rentry,
        num_hosts: u32,
    },
    DeleteResource {
        flags: IndexFlags,
        rindex: Rindex,
        entry: Rentry,
    },
    RebuildRindex {
        flags: IndexFlags,
        rindex: Rindex,
    },
    Acquire2 {
        flags: AcquireFlags,
        whose: Whose,
        placed: PlacedResource,
        options: Options,
    },
    ReadLockspaceHost(Lockspace),
    InitLockspaceHost {
        lockspace: Lockspace,
        leader: Box<RawLeader>,
        io_timeout: u32,
    },
    SetHost {
        lockspace: Lockspace,
        host: Host,
        dead_ext: bool,
        io_timeout: u32,
    },
}

/// How much STATUS is to show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StatusOf {
    /// The daemon.
    Daemon,
    /// And its clients.
    Clients,
    /// And its lockspaces.
    Lockspaces,
    /// And resources.
    All,
}

/// Cuts structs out of a body that is known to be long enough.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take<const N: usize>(&mut self) -> &'a [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("the body is complete");
        self.0 = rest;
        head
    }

    fn lockspace(&mut self) -> Lockspace {
        Lockspace::parse(self.take())
    }

    fn resource(&mut self) -> Resource {
        Resource::parse(self.take())
    }

    fn placed(&mut self) -> PlacedResource {
        let resource = self.resource();
        let disks = (0..resource.num_disks).map(|_| Disk::parse(self.take()));
        PlacedResource {
            disks: disks.collect(),
            resource,
        }
    }

    fn options(&mut self) -> Options {
        Options::parse(self.take())
    }

    fn rindex(&mut self) -> Rindex {
        Rindex::parse(self.take())
    }

    fn entry(&mut self) -> Rentry {
        Rentry::parse(self.take())
    }

    fn c_string(&mut self) -> OsString {
        let field: &[u8; KILLPATH_LEN] = self.take();
        OsString::from_vec(At(0).c_string(field, KILLPATH_LEN).to_vec())
    }
}

/// A count that the header gives.
fn count(data: i32, most: usize) -> Result<usize, Refusal> {
    // The real daemon counts from 0 up: below that there is nothing.
    let count = usize::try_from(data).unwrap_or(0);
    (count <= most).then_some(count).ok_or(Refusal::TooBig)
}

/// How many resources follow the header of RELEASE.
fn released(header: &Header) -> Result<usize, Refusal> {
    let flags = ReleaseFlags(header.flags);
    let wanted = match () {
        () if flags.contains(ReleaseFlags::ALL) => return Ok(0),
        () if flags.contains(ReleaseFlags::RENAME) => 2,
        () if flags.contains(ReleaseFlags::ORPHAN) => 1,
        () => return count(header.data, MAX_RELEASED),
    };
    match count(header.data, MAX_RELEASED)? == wanted {
        true => Ok(wanted),
        false => Err(Refusal::Invalid),
    }
}

/// The length of a body as far as what there is of it tells: complete when it is that long, else ask again then.
///
/// The length in the header is not looked at, but for the lock value block: clients state wrong ones.
pub(super) fn known_length(
    command: Command,
    header: &Header,
    have: &[u8],
) -> Result<usize, Refusal> {
    use Command as C;
    Ok(match command {
        C::Register
        | C::Shutdown
        | C::Status
        | C::LogDump
        | C::Inquire
        | C::Restrict
        | C::GetLockspaces
        | C::Version
        | C::ShutdownWait => 0,
        C::Align => Disk::LEN,
        C::Killpath => 2 * KILLPATH_LEN,
        C::AddLockspace
        | C::RemLockspace
        | C::InqLockspace
        | C::ExamineLockspace
        | C::HostStatus
        | C::WriteLockspace
        | C::ReadLockspace
        | C::GetHosts
        | C::EndEvent
        | C::SetConfig
        | C::Renewal
        | C::ReadLockspaceHost => Lockspace::LEN,
        C::RegEvent | C::SetEvent => Lockspace::LEN + HostEvent::LEN,
        C::InitLockspaceHost => Lockspace::LEN + LEADER_LEN,
        C::SetHost => Lockspace::LEN + Host::LEN,
        C::ExamineResource | C::Convert | C::GetLvb => Resource::LEN,
        C::SetLvb => match (header.body_length() as usize).checked_sub(Resource::LEN) {
            None => return Err(Refusal::Invalid),
            Some(lvb) if lvb > MAX_LVB => return Err(Refusal::TooBig),
            Some(lvb) => Resource::LEN + lvb,
        },
        C::Release => released(header)? * Resource::LEN,
        C::Request | C::WriteResource | C::ReadResource | C::ReadResourceOwners => {
            placed(have, 0, 1)?.length()
        }
        C::Acquire => with_options(placed(have, 0, count(header.data, MAX_RESOURCES)?)?),
        C::Acquire2 if header.data != 1 => return Err(Refusal::Invalid),
        C::Acquire2 => with_options(placed(have, 0, 1)?),
        C::FormatRindex | C::RebuildRindex => Rindex::LEN,
        C::LookupRindex | C::UpdateRindex | C::CreateResource | C::DeleteResource => {
            Rindex::LEN + Rentry::LEN
        }
    })
}

/// How long resources with their disks are.
enum Extent {
    /// So long.
    Known(usize),
    /// Longer: a resource that ends here must be seen first.
    NotBefore(usize),
}

impl Extent {
    fn length(self) -> usize {
        match self {
            Extent::Known(length) | Extent::NotBefore(length) => length,
        }
    }
}

fn placed(have: &[u8], mut at: usize, count: usize) -> Result<Extent, Refusal> {
    for _ in 0..count {
        let Some(resource) = have[at.min(have.len())..].first_chunk() else {
            return Ok(Extent::NotBefore(at + Resource::LEN));
        };
        let disks = Resource::parse(resource).num_disks as usize;
        if !(1..=MAX_DISKS).contains(&disks) {
            return Err(Refusal::Range);
        }
        at += Resource::LEN + disks * Disk::LEN;
    }
    Ok(Extent::Known(at))
}

fn with_options(extent: Extent) -> usize {
    match extent {
        Extent::Known(length) => length + Options::LEN,
        Extent::NotBefore(length) => length,
    }
}

/// The longest body that [`known_length`] lets through.
pub(super) const LONGEST_BODY: usize =
    MAX_RESOURCES * (Resource::LEN + MAX_DISKS * Disk::LEN) + Options::LEN;
const _: () = assert!(LONGEST_BODY >= MAX_RELEASED * Resource::LEN);
const _: () = assert!(HEADER_LEN + LONGEST_BODY < 64 << 10);

/// Seconds or a number that cannot be negative.
fn number(data: i32) -> u32 {
    data.max(0).cast_unsigned()
}

impl Request {
    /// Takes a complete body apart: one of exactly the known length.
    pub(super) fn parse(command: Command, header: &Header, body: &[u8]) -> Request {
        use Command as C;
        let (flags, data, data2) = (header.flags, header.data, header.data2);
        let whose = Whose::of(header);
        let mut body = Body(body);
        match command {
            C::Register => Request::Register,
            C::AddLockspace => Request::AddLockspace {
                flags: AddFlags(flags),
                lockspace: body.lockspace(),
                io_timeout: number(data),
            },
            C::RemLockspace => Request::RemLockspace {
                flags: RemFlags(flags),
                lockspace: body.lockspace(),
            },
            C::Shutdown => Request::Shutdown { force: data != 0 },
            C::Status => Request::Status(match data {
                1 => StatusOf::Daemon,
                2 => StatusOf::Clients,
                3 => StatusOf::Lockspaces,
                _ => StatusOf::All,
            }),
            C::LogDump => Request::LogDump,
            C::Acquire => {
                let resources = (0..data).map(|_| body.placed()).collect();
                Request::Acquire {
                    flags: AcquireFlags(flags),
                    whose,
                    resources,
                    options: body.options(),
                }
            }
            C::Release => {
                let flags = ReleaseFlags(flags);
                let what = match () {
                    () if flags.contains(ReleaseFlags::ALL) => Release::All,
                    () if flags.contains(ReleaseFlags::RENAME) => Release::Rename {
                        held: body.resource(),
                        renamed: body.resource(),
                    },
                    () if flags.contains(ReleaseFlags::ORPHAN) => Release::Orphan(body.resource()),
                    () => Release::These((0..data).map(|_| body.resource()).collect()),
                };
                Request::Release { flags, whose, what }
            }
            C::Inquire => Request::Inquire { whose },
            C::Restrict => Request::Restrict {
                flags: RestrictFlags(flags),
                whose,
            },
            C::Request => Request::Request {
                flags: AskFlags(flags),
                placed: body.placed(),
                force_mode: number(data),
            },
            C::Align => Request::Align(Disk::parse(body.take())),
            C::ExamineLockspace => Request::ExamineLockspace(body.lockspace()),
            C::ExamineResource => Request::ExamineResource(body.resource()),
            C::HostStatus => Request::HostStatus(body.lockspace()),
            C::InqLockspace => Request::InqLockspace {
                flags: InqFlags(flags),
                lockspace: body.lockspace(),
            },
            C::Killpath => Request::Killpath {
                flags: KillpathFlags(flags),
                whose,
                path: body.c_string(),
                args: body.c_string(),
            },
            C::WriteLockspace => Request::WriteLockspace {
                flags: WriteLockspaceFlags(flags),
                lockspace: body.lockspace(),
                io_timeout: number(data2),
            },
            C::WriteResource => Request::WriteResource {
                flags: WriteResourceFlags(flags),
                placed: body.placed(),
                num_hosts: number(data),
            },
            C::ReadLockspace => Request::ReadLockspace(body.lockspace()),
            C::ReadResource => Request::ReadResource(body.placed()),
            C::GetLockspaces => Request::GetLockspaces,
            C::GetHosts => Request::GetHosts {
                flags: HostsFlags(flags),
                lockspace: body.lockspace(),
            },
            C::ReadResourceOwners => Request::ReadResourceOwners(body.placed()),
            C::SetLvb => Request::SetLvb {
                resource: body.resource(),
                lvb: body.0.to_vec(),
            },
            C::GetLvb => Request::GetLvb {
                resource: body.resource(),
                len: number(data2),
            },
            C::Convert => Request::Convert {
                flags: ConvertFlags(flags),
                whose,
                resource: body.resource(),
            },
            C::Version => Request::Version,
            C::ShutdownWait => Request::ShutdownWait { force: data != 0 },
            C::RegEvent => Request::RegEvent(body.lockspace()),
            C::EndEvent => Request::EndEvent(body.lockspace()),
            C::SetEvent => Request::SetEvent {
                flags: EventFlags(flags),
                lockspace: body.lockspace(),
                event: HostEvent::parse(body.take()),
            },
            C::SetConfig => Request::SetConfig {
                lockspace: body.lockspace(),
                config: ConfigFlags(data.cast_unsigned()),
                io_timeout: number(data2),
            },
            C::Renewal => Request::Renewal(body.lockspace()),
            C::FormatRindex => Request::FormatRindex {
                flags: IndexFlags(flags),
                rindex: body.rindex(),
            },
            C::UpdateRindex => Request::UpdateRindex {
                flags: IndexFlags(flags),
                rindex: body.rindex(),
                entry: body.entry(),
            },
            C::LookupRindex => Request::LookupRindex {
                flags: IndexFlags(flags),
                rindex: body.rindex(),
                entry: body.entry(),
            },
            C::CreateResource => Request::CreateResource {
                flags: IndexFlags(flags),
                rindex: body.rindex(),
                entry: body.entry(),
                num_hosts: number(data2),
            },
            C::DeleteResource => Request::DeleteResource {
                flags: IndexFlags(flags),
                rindex: body.rindex(),
                entry: body.entry(),
            },
            C::RebuildRindex => Request::RebuildRindex {
                flags: IndexFlags(flags),
                rindex: body.rindex(),
            },
            C::Acquire2 => Request::Acquire2 {
                flags: AcquireFlags(flags),
                whose,
                placed: body.placed(),
                options: body.options(),
            },
            C::ReadLockspaceHost => Request::ReadLockspaceHost(body.lockspace()),
            C::InitLockspaceHost => {
                let lockspace = body.lockspace();
                let leader: &[u8; LEADER_LEN] = body.take();
                let leader = RawLeader::read(leader).expect("as many bytes as a leader has");
                Request::InitLockspaceHost {
                    lockspace,
                    leader: Box::new(leader),
                    io_timeout: number(data2),
                }
            }
            C::SetHost => Request::SetHost {
                lockspace: body.lockspace(),
                host: Host::parse(body.take()),
                dead_ext: data & 1 != 0,
                io_timeout: number(data2),
            },
        }
    }
}
