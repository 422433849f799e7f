//! A RAM disk through this crate: the smallest server of a ublk device, and what the guest tests run.
//!
//! `null [--mib N] [--id N] [--depth N] [--queues N] [--block N] [--read-only] [--null]` prints the block node
//! once it serves, and detaches on a line on stdin or its end. `null --remove N` deletes a left-over device;
//! `null --list` lists all. With `--null` reads return what the buffer holds and writes go nowhere.

use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ublk_dev::control;
use ublk_dev::params::{Discard, Parameters};
use ublk_dev::{
    AddOptions, BlockOp, BlockRequest, BufferId, Device, DeviceQueue, Errno, Event, Ring, Slots,
    process,
};

const LIMIT: Duration = Duration::from_secs(30);
const IO_BYTES_MAX: u32 = 1 << 20;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// One lock for the disk: queues only meet here, and it is an example.
struct Disk {
    bytes: Mutex<Vec<u8>>,
    null: bool,
}

impl Disk {
    fn serve(&self, request: &BlockRequest, slots: &mut Slots) -> Result<(), Errno> {
        if self.null {
            return Ok(());
        }
        let mut bytes = self
            .bytes
            .lock()
            .expect("no queue thread panics with the lock");
        let start = request.start_sector as usize * 512;
        let range = start..start + request.sectors as usize * 512;
        let range = bytes.get_mut(range).ok_or(Errno::IO)?;
        let buffer = BufferId::from(request.tag);
        match request.op {
            BlockOp::Read => slots
                .write(buffer, 0, request.payload_bytes())
                .copy_from_slice(range),
            BlockOp::Write => range.copy_from_slice(slots.read(buffer, 0, request.payload_bytes())),
            BlockOp::Discard | BlockOp::WriteZeroes { .. } => range.fill(0),
            BlockOp::Flush => {}
        }
        Ok(())
    }
}

fn serve(queue: DeviceQueue, disk: &Disk) -> io::Result<()> {
    let mut slots = Slots::new(queue.depth(), queue.io_bytes_max(), 0, 0)?;
    let mut ring = Ring::new(Some(queue), 0, &mut slots)?;
    loop {
        while let Some(event) = ring.next() {
            match event {
                Event::Request(request) => {
                    let result = disk.serve(&request, &mut slots);
                    ring.commit(request.tag, result, &mut slots);
                }
                Event::DeviceStopped => return Ok(()),
                other => unreachable!("{other:?} without links"),
            }
        }
        ring.submit_and_wait(None)?;
    }
}

struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|word| word == name)
    }

    fn number(&self, name: &str) -> Result<Option<u32>, Error> {
        let Some(at) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        let value = self
            .0
            .get(at + 1)
            .ok_or_else(|| format!("{name} needs a number"))?;
        Ok(Some(
            value
                .parse()
                .map_err(|_| format!("{name}: {value:?} is no number"))?,
        ))
    }
}

fn main() -> Result<(), Error> {
    let arguments = Arguments(std::env::args().skip(1).collect());
    if arguments.flag("--list") {
        for device in control::devices(LIMIT)? {
            println!("{device:?}");
        }
        return Ok(());
    }
    if let Some(id) = arguments.number("--remove")? {
        println!("removed: {}", control::remove_leftover(id, LIMIT)?);
        return Ok(());
    }
    process::set_io_flusher()?;
    process::forbid_core_dump()?;
    process::spare_from_oom_killer()?;
    let features = control::probe(LIMIT)?;
    eprintln!("driver features {:#x}", features.0);

    let block = arguments.number("--block")?.unwrap_or(512);
    let bytes = u64::from(arguments.number("--mib")?.unwrap_or(256)) << 20;
    let parameters = Parameters {
        blocks: bytes / u64::from(block),
        logical_block_bytes: block,
        physical_block_bytes: 4096,
        io_min_bytes: 4096,
        io_opt_bytes: 65_536,
        io_bytes_max: IO_BYTES_MAX,
        rotational: false,
        volatile_cache: true,
        fua: true,
        read_only: arguments.flag("--read-only"),
        discard: Some(Discard {
            granularity_bytes: block,
            alignment_bytes: 0,
            bytes_max: u64::MAX,
        }),
        write_zeroes_bytes_max: u64::MAX,
    };
    let options = AddOptions {
        id: arguments.number("--id")?,
        queues: arguments.number("--queues")?.unwrap_or(1) as u16,
        depth: arguments.number("--depth")?.unwrap_or(64) as u16,
        io_bytes_max: IO_BYTES_MAX,
        parameters,
    };
    let mut device = Device::add(options, LIMIT)?;
    let disk = Arc::new(Disk {
        bytes: Mutex::new(vec![0; bytes as usize]),
        null: arguments.flag("--null"),
    });
    let queues: Vec<_> = device
        .take_queues()
        .into_iter()
        .map(|queue| {
            let disk = Arc::clone(&disk);
            std::thread::spawn(move || serve(queue, &disk))
        })
        .collect();
    process::lock_memory()?;
    device.start(LIMIT)?;
    println!("{}", device.block_path().display());
    io::stdout().flush()?;

    io::stdin().lock().read_line(&mut String::new())?;
    device.stop(LIMIT)?;
    for queue in queues {
        queue.join().expect("queue thread panicked")?;
    }
    device.delete(LIMIT)?;
    println!("detached");
    Ok(())
}
