//! The 32 bytes before every message, and the numbers of the commands.

use super::bytes::At;
use super::result::Refusal;

/// Bytes of a header.
pub const HEADER_LEN: usize = 32;

/// First word of every message.
pub const MAGIC: u32 = 0x0428_2010;

/// Protocol 0.1: major in the upper, minor in the lower half. It never changed from sanlock 2 to 5.
pub const PROTOCOL: u32 = 0x0000_0001;

mod field {
    use super::At;

    pub const MAGIC: At = At(0);
    pub const VERSION: At = At(4);
    pub const COMMAND: At = At(8);
    pub const FLAGS: At = At(12);
    pub const LENGTH: At = At(16);
    pub const SEQ: At = At(20);
    pub const DATA: At = At(24);
    pub const DATA2: At = At(28);
}

/// A header, of a request or of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Protocol version.
    pub version: u32,
    /// Command number, known or not.
    pub command: u32,
    /// Command flags.
    pub flags: u32,
    /// Bytes of the message with its header, as the sender counts: not to be relied on.
    pub length: u32,
    /// Always 0; echoed.
    pub seq: u32,
    /// In replies the result.
    pub data: i32,
    /// As the command says.
    pub data2: i32,
}

/// The first word is another one: this is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadMagic {
    /// The word found.
    pub found: u32,
}

impl Header {
    /// The header of a request without a body.
    pub fn request(command: Command) -> Header {
        Header {
            version: PROTOCOL,
            command: command as u32,
            flags: 0,
            length: HEADER_LEN as u32,
            seq: 0,
            data: 0,
            data2: 0,
        }
    }

    /// Reads the 32 bytes.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Header, BadMagic> {
        match field::MAGIC.u32(bytes) {
            MAGIC => Ok(Header {
                version: field::VERSION.u32(bytes),
                command: field::COMMAND.u32(bytes),
                flags: field::FLAGS.u32(bytes),
                length: field::LENGTH.u32(bytes),
                seq: field::SEQ.u32(bytes),
                data: field::DATA.i32(bytes),
                data2: field::DATA2.i32(bytes),
            }),
            found => Err(BadMagic { found }),
        }
    }

    /// The 32 bytes.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        field::MAGIC.put_u32(&mut bytes, MAGIC);
        field::VERSION.put_u32(&mut bytes, self.version);
        field::COMMAND.put_u32(&mut bytes, self.command);
        field::FLAGS.put_u32(&mut bytes, self.flags);
        field::LENGTH.put_u32(&mut bytes, self.length);
        field::SEQ.put_u32(&mut bytes, self.seq);
        field::DATA.put_i32(&mut bytes, self.data);
        field::DATA2.put_i32(&mut bytes, self.data2);
        bytes
    }

    /// The answer to this request, without a body: everything echoed but for version, length, `data` and `data2`.
    pub fn answered(&self, result: Result<u32, Refusal>) -> Header {
        Header {
            version: PROTOCOL,
            length: HEADER_LEN as u32,
            data: match result {
                // Counts and sizes of areas: far below.
                Ok(number) => i32::try_from(number).unwrap_or(i32::MAX),
                Err(refusal) => refusal.value(),
            },
            data2: 0,
            ..*self
        }
    }

    /// Major protocol number.
    pub fn major(&self) -> u32 {
        self.version >> 16
    }

    /// Bytes of body that the sender counted.
    pub fn body_length(&self) -> u32 {
        self.length.saturating_sub(HEADER_LEN as u32)
    }
}

/// A number that no command has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownCommand(pub u32);

/// Declares the commands with their numbers.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $number:literal $word:literal,)+) => {
        /// The commands. The last four came with sanlock 5.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum Command {
            $($(#[$doc])* $name = $number,)+
        }

        impl Command {
            /// All of them, by their numbers.
            pub const ALL: &'static [Command] = &[$(Command::$name),+];

            /// What logs and `status` call it.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Command::$name => $word,)+
                }
            }
        }

        impl TryFrom<u32> for Command {
            type Error = UnknownCommand;

            fn try_from(number: u32) -> Result<Command, UnknownCommand> {
                match number {
                    $($number => Ok(Command::$name),)+
                    _ => Err(UnknownCommand(number)),
                }
            }
        }
    };
}

commands! {
    /// This connection stands for its process from now on. Not answered.
    Register = 1 "register",
    /// Join a lockspace.
    AddLockspace = 2 "add_lockspace",
    /// Leave it.
    RemLockspace = 3 "rem_lockspace",
    /// End the daemon. Not answered.
    Shutdown = 4 "shutdown",
    /// States of everything.
    Status = 5 "status",
    /// The log kept in memory.
    LogDump = 6 "log_dump",
    /// Acquire leases, all or none.
    Acquire = 7 "acquire",
    /// Release leases.
    Release = 8 "release",
    /// What a client holds.
    Inquire = 9 "inquire",
    /// Restrict a client.
    Restrict = 10 "restrict",
    /// Ask the owner of a lease to let go.
    Request = 11 "request",
    /// Align size of a device.
    Align = 12 "align",
    /// Look at the request records of a lockspace now.
    ExamineLockspace = 13 "examine",
    /// Look at one request record now.
    ExamineResource = 14 "examine",
    /// States of the hosts of a lockspace.
    HostStatus = 15 "host_status",
    /// Whether a lockspace is joined.
    InqLockspace = 16 "inq_lockspace",
    /// What to run instead of a signal.
    Killpath = 17 "killpath",
    /// Format a lockspace.
    WriteLockspace = 18 "write_lockspace",
    /// Format a resource.
    WriteResource = 19 "write_resource",
    /// Read a lockspace from its disk.
    ReadLockspace = 20 "read_lockspace",
    /// Read a resource from its disk.
    ReadResource = 21 "read_resource",
    /// The lockspaces that are joined.
    GetLockspaces = 22 "get_lockspaces",
    /// The hosts of a lockspace.
    GetHosts = 23 "get_hosts",
    /// Who owns a resource, from its disk.
    ReadResourceOwners = 24 "read_resource_owners",
    /// Set a lock value block.
    SetLvb = 25 "set_lvb",
    /// Get it.
    GetLvb = 26 "get_lvb",
    /// Hold a lease in another mode.
    Convert = 27 "convert",
    /// Version of the daemon.
    Version = 28 "version",
    /// End the daemon, and answer when it has.
    ShutdownWait = 29 "shutdown_wait",
    /// Tell this connection about events.
    RegEvent = 30 "reg_event",
    /// Tell it no more.
    EndEvent = 31 "end_event",
    /// Tell hosts something.
    SetEvent = 32 "set_event",
    /// Configure a joined lockspace.
    SetConfig = 33 "set_config",
    /// The last renewals of a lockspace.
    Renewal = 34 "renewal",
    /// Format an index.
    FormatRindex = 35 "format_rindex",
    /// Write an entry.
    UpdateRindex = 36 "update_rindex",
    /// Find an entry.
    LookupRindex = 37 "lookup_rindex",
    /// Make a resource and its entry.
    CreateResource = 38 "create_resource",
    /// Delete a resource and its entry.
    DeleteResource = 39 "delete_resource",
    /// Make an index again from the resources.
    RebuildRindex = 40 "rebuild_rindex",
    /// ACQUIRE of one, which names the owner on conflict.
    Acquire2 = 41 "acquire2",
    /// READ_LOCKSPACE with what one slot says.
    ReadLockspaceHost = 42 "read_lockspace_host",
    /// Write one slot.
    InitLockspaceHost = 43 "init_lockspace_host",
    /// Declare a host dead.
    SetHost = 44 "set_host",
}
