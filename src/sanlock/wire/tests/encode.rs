//! The client's side: a request as bytes, written from its fields alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::super::header::Header;
use super::super::request::{KILLPATH_LEN, Release, Request, StatusOf, Whose};
use super::super::structs::PlacedResource;

fn placed(placed: &PlacedResource) -> Vec<u8> {
    let mut bytes = placed.resource.emit().to_vec();
    bytes.extend(placed.disks.iter().flat_map(|disk| disk.emit()));
    bytes
}

fn padded(text: &OsStr) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(KILLPATH_LEN, 0);
    bytes
}

fn count(number: usize) -> i32 {
    i32::try_from(number).expect("a small number")
}

/// The header and body of `request`. Of `stated`, its header, the command and what the sender stated as length count, since clients
/// state lengths that are not true.
pub fn encode(stated: &Header, request: &Request) -> Vec<u8> {
    let whose = |whose: &Whose| match whose {
        Whose::Callers => -1,
        Whose::Process(number) | Whose::Client(number) => *number,
    };
    let yes = |flag: &bool| i32::from(*flag);
    let seconds = |n: &u32| n.cast_signed();
    use Request as R;
    let (flags, data, data2, body): (u32, i32, i32, Vec<u8>) = match request {
        R::Register | R::LogDump | R::GetLockspaces | R::Version => (0, 0, 0, vec![]),
        R::AddLockspace {
            flags,
            lockspace,
            io_timeout,
        } => (flags.0, seconds(io_timeout), 0, lockspace.emit().to_vec()),
        R::RemLockspace { flags, lockspace } => (flags.0, 0, 0, lockspace.emit().to_vec()),
        R::Shutdown { force } | R::ShutdownWait { force } => (0, yes(force), 0, vec![]),
        R::Status(of) => {
            let data = match of {
                StatusOf::All => 0,
                StatusOf::Daemon => 1,
                StatusOf::Clients => 2,
                StatusOf::Lockspaces => 3,
            };
            (0, data, 0, vec![])
        }
        R::Acquire {
            flags,
            whose: client,
            resources,
            options,
        } => {
            let mut body: Vec<u8> = resources.iter().flat_map(placed).collect();
            body.extend(options.emit());
            (flags.0, count(resources.len()), whose(client), body)
        }
        R::Acquire2 {
            flags,
            whose: client,
            placed: resource,
            options,
        } => {
            let body = [placed(resource), options.emit().to_vec()].concat();
            (flags.0, 1, whose(client), body)
        }
        R::Release {
            flags,
            whose: client,
            what,
        } => {
            let resources = match what {
                Release::All => vec![],
                Release::These(resources) => resources.clone(),
                Release::Rename { held, renamed } => vec![*held, *renamed],
                Release::Orphan(resource) => vec![*resource],
            };
            let body = resources.iter().flat_map(|r| r.emit()).collect();
            (flags.0, count(resources.len()), whose(client), body)
        }
        R::Inquire { whose: client } => (0, 0, whose(client), vec![]),
        R::Restrict {
            flags,
            whose: client,
        } => (flags.0, 0, whose(client), vec![]),
        R::Request {
            flags,
            placed: resource,
            force_mode,
        } => (flags.0, seconds(force_mode), 0, placed(resource)),
        R::Align(disk) => (0, 0, 0, disk.emit().to_vec()),
        R::ExamineLockspace(lockspace)
        | R::HostStatus(lockspace)
        | R::ReadLockspace(lockspace)
        | R::EndEvent(lockspace)
        | R::Renewal(lockspace)
        | R::ReadLockspaceHost(lockspace) => (0, 0, 0, lockspace.emit().to_vec()),
        R::ExamineResource(resource) => (0, 0, 0, resource.emit().to_vec()),
        R::InqLockspace { flags, lockspace } => (flags.0, 0, 0, lockspace.emit().to_vec()),
        R::Killpath {
            flags,
            whose: client,
            path,
            args,
        } => {
            let body = [padded(path), padded(args)].concat();
            (flags.0, 0, whose(client), body)
        }
        R::WriteLockspace {
            flags,
            lockspace,
            io_timeout,
        } => (flags.0, 0, seconds(io_timeout), lockspace.emit().to_vec()),
        R::WriteResource {
            flags,
            placed: resource,
            num_hosts,
        } => (flags.0, seconds(num_hosts), 0, placed(resource)),
        R::ReadResource(resource) | R::ReadResourceOwners(resource) => (0, 0, 0, placed(resource)),
        R::GetHosts { flags, lockspace } => (flags.0, 0, 0, lockspace.emit().to_vec()),
        R::SetLvb { resource, lvb } => (0, 0, 0, [&resource.emit()[..], lvb].concat()),
        R::GetLvb { resource, len } => (0, 0, seconds(len), resource.emit().to_vec()),
        R::Convert {
            flags,
            whose: client,
            resource,
        } => (flags.0, 0, whose(client), resource.emit().to_vec()),
        R::RegEvent(lockspace) => (0, 0, 0, [&lockspace.emit()[..], &[0; 32]].concat()),
        R::SetEvent {
            flags,
            lockspace,
            event,
        } => {
            let body = [&lockspace.emit()[..], &event.emit()].concat();
            (flags.0, 0, 0, body)
        }
        R::SetConfig {
            lockspace,
            config,
            io_timeout,
        } => (
            0,
            config.0.cast_signed(),
            seconds(io_timeout),
            lockspace.emit().to_vec(),
        ),
        R::FormatRindex { flags, rindex } | R::RebuildRindex { flags, rindex } => {
            (flags.0, 0, 0, rindex.emit().to_vec())
        }
        R::UpdateRindex {
            flags,
            rindex,
            entry,
        }
        | R::LookupRindex {
            flags,
            rindex,
            entry,
        }
        | R::DeleteResource {
            flags,
            rindex,
            entry,
        } => {
            let body = [&rindex.emit()[..], &entry.emit()].concat();
            (flags.0, 0, 0, body)
        }
        R::CreateResource {
            flags,
            rindex,
            entry,
            num_hosts,
        } => {
            let body = [&rindex.emit()[..], &entry.emit()].concat();
            (flags.0, 0, seconds(num_hosts), body)
        }
        R::InitLockspaceHost {
            lockspace,
            leader,
            io_timeout,
        } => {
            let body = [&lockspace.emit()[..], &leader.emit()].concat();
            (0, 0, seconds(io_timeout), body)
        }
        R::SetHost {
            lockspace,
            host,
            dead_ext,
            io_timeout,
        } => {
            let body = [&lockspace.emit()[..], &host.emit()].concat();
            (0, yes(dead_ext), seconds(io_timeout), body)
        }
    };
    let header = Header {
        flags,
        data,
        data2,
        ..*stated
    };
    [&header.emit()[..], &body].concat()
}
