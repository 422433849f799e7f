//! The judges: who may believe to own what, and whose writes may reach the medium.
//!
//! A *claim* lasts from when a host is told that it holds a lease until it starts to let go. It is *active* while the host's gate is
//! open. What must never be: two active claims that exclude each other, a data write that lands after another host was
//! granted the same resource, a gate that opens again over a lease that somebody else had in between, a free leader written
//! over a later owner's, two owners of one version, a generation that does not grow, a lock value block that lands after another host's acquisition or that
//! is not what its last owner left, an owner asked by nobody, a request that is erased by who saw it, a sector with one writer that
//! goes back to what was there before.

use std::collections::{BTreeMap, HashMap};

use lockmgr::ondisk::{ForceMode, PaxosLeader, Request};
use lockmgr::{IoId, Mode};

/// One host's belief to hold one resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    pub host: usize,
    pub mode: Mode,
    /// Number of the grant among all grants of the resource.
    pub grant: u64,
}

/// A write of a sector with one writer: whose, in which life of that host, and its bytes.
type Landed = (usize, u64, IoId, Box<[u8]>);

#[derive(Default, Debug)]
struct Resource {
    grants: u64,
    /// The youngest grants, and to whom: all, and exclusive ones.
    last: Vec<(u64, usize, Mode)>,
    claims: Vec<Claim>,
    /// What may be in its lock value block: of these values one.
    block: Vec<u64>,
    /// Whom the first leader of each version named as its owner, in which generation, and when it landed.
    decided: BTreeMap<u64, ((u64, u64), u64)>,
    /// Requests to its owner that were written.
    requests: u64,
    /// The last of them, and when it landed.
    request: Option<(Request, u64)>,
}

pub struct Judge {
    resources: Vec<Resource>,
    generations: Vec<u64>,
    pub violations: Vec<String>,
    pub granted: u64,
    pub restored: u64,
    /// Longest time, in nanoseconds, from the first leader of a version until one of an older version landed on it.
    pub latest_commit: u64,
    /// Lock value blocks that were read, and owners that heard that somebody waits.
    pub blocks_read: u64,
    pub owners_asked: u64,
    /// What landed last in each sector with one writer.
    own: HashMap<u64, Landed>,
}

impl Resource {
    fn new() -> Resource {
        Resource {
            block: vec![0],
            ..Resource::default()
        }
    }
}

impl Judge {
    pub fn new(resources: usize, hosts: usize) -> Judge {
        Judge {
            resources: (0..resources).map(|_| Resource::new()).collect(),
            generations: vec![0; hosts],
            violations: Vec::new(),
            granted: 0,
            restored: 0,
            latest_commit: 0,
            blocks_read: 0,
            owners_asked: 0,
            own: HashMap::new(),
        }
    }

    fn object(&mut self, at: u64, what: String) {
        self.violations.push(format!(
            "at {}.{:03} s: {what}",
            at / 1_000_000_000,
            at / 1_000_000 % 1000
        ));
    }

    pub fn claim(&self, resource: usize, host: usize) -> Option<Claim> {
        self.resources[resource]
            .claims
            .iter()
            .find(|c| c.host == host)
            .copied()
    }

    pub fn claims_of(&self, host: usize) -> impl Iterator<Item = (usize, Claim)> + '_ {
        let of = move |(index, resource): (usize, &Resource)| {
            Some((index, *resource.claims.iter().find(|c| c.host == host)?))
        };
        self.resources.iter().enumerate().filter_map(of)
    }

    /// `host` was told that it holds the resource. `open` says whose gates are open.
    pub fn grant(
        &mut self,
        at: u64,
        resource: usize,
        host: usize,
        mode: Mode,
        open: impl Fn(usize) -> bool,
    ) {
        self.granted += 1;
        let others = &self.resources[resource].claims;
        let excluded = |c: &&Claim| {
            c.host != host && (mode == Mode::Exclusive || c.mode == Mode::Exclusive) && open(c.host)
        };
        if let Some(other) = others.iter().find(excluded) {
            let what = format!("resource {resource}: {host} got it {mode:?} beside {other:?}");
            self.object(at, what);
        }
        let resource = &mut self.resources[resource];
        resource.grants += 1;
        let grant = resource.grants;
        resource.last.push((grant, host, mode));
        resource.claims.retain(|c| c.host != host);
        resource.claims.push(Claim { host, mode, grant });
    }

    /// It has stopped to use it.
    pub fn end(&mut self, resource: usize, host: usize) {
        self.resources[resource].claims.retain(|c| c.host != host);
    }

    /// It uses it shared from now on, whatever the disk says yet.
    pub fn share(&mut self, resource: usize, host: usize) {
        for claim in &mut self.resources[resource].claims {
            if claim.host == host {
                claim.mode = Mode::Shared;
            }
        }
    }

    /// All claims of a host that died.
    pub fn died(&mut self, host: usize) {
        for resource in &mut self.resources {
            resource.claims.retain(|c| c.host != host);
        }
    }

    /// Who was granted the resource since, in conflict with this claim.
    fn successor(&self, resource: usize, claim: &Claim) -> Option<(u64, usize, Mode)> {
        self.resources[resource]
            .last
            .iter()
            .copied()
            .find(|(grant, host, mode)| {
                *grant > claim.grant
                    && *host != claim.host
                    && (claim.mode == Mode::Exclusive || *mode == Mode::Exclusive)
            })
    }

    /// A write to what the resource protects has executed.
    pub fn data(&mut self, at: u64, resource: usize, claim: Claim) {
        if let Some(later) = self.successor(resource, &claim) {
            let what = format!("resource {resource}: data under {claim:?} landed after {later:?}");
            self.object(at, what);
        }
    }

    /// The gate of a host opens again. `open` says whose gates are open.
    pub fn restored(&mut self, at: u64, host: usize, open: impl Fn(usize) -> bool) {
        self.restored += 1;
        let claims: Vec<_> = self.claims_of(host).collect();
        for (resource, claim) in claims {
            if let Some(later) = self.successor(resource, &claim) {
                let what = format!("resource {resource}: {claim:?} restored after {later:?}");
                self.object(at, what);
            }
            let beside = self.resources[resource].claims.iter().find(|c| {
                c.host != host
                    && (c.mode == Mode::Exclusive || claim.mode == Mode::Exclusive)
                    && open(c.host)
            });
            if let Some(other) = beside {
                let what = format!("resource {resource}: {claim:?} restored beside {other:?}");
                self.object(at, what);
            }
        }
    }

    /// A host took its slot.
    pub fn joined(&mut self, at: u64, host: usize, generation: u64) {
        if generation <= self.generations[host] {
            let what = format!(
                "host {host} lives in generation {generation} after {}",
                self.generations[host]
            );
            self.object(at, what);
        }
        self.generations[host] = generation;
    }

    /// A release began that leaves this value.
    pub fn leaves(&mut self, resource: usize, value: u64) {
        self.resources[resource].block.push(value);
    }

    /// It ended. Its host may hear that long after others went on, whose values are younger.
    pub fn left(&mut self, resource: usize, value: u64) {
        let block = &mut self.resources[resource].block;
        if let Some(place) = block.iter().position(|v| *v == value) {
            block.drain(..place);
        }
    }

    /// A write to a lock value block executes, of a release that gave this claim up.
    pub fn block_lands(&mut self, at: u64, resource: usize, claim: Claim) {
        if let Some(later) = self.successor(resource, &claim) {
            let what =
                format!("resource {resource}: the block of {claim:?} landed after {later:?}");
            self.object(at, what);
        }
    }

    /// Who holds the resource read its lock value block.
    pub fn block_read(&mut self, at: u64, resource: usize, host: usize, value: u64) {
        self.blocks_read += 1;
        let block = &mut self.resources[resource].block;
        if let Some(place) = block.iter().position(|v| *v == value) {
            // It is known now what came of a release that got stuck, and of those before it.
            block.truncate(place + 1);
            block.drain(..place);
        } else {
            let what = format!("resource {resource}: {host} read block {value}, not of {block:?}");
            self.object(at, what);
        }
    }

    /// A request to the owner lands, of a host that has looked at what was there since `looked`.
    pub fn requested(&mut self, at: u64, resource: usize, request: Request, looked: u64) {
        let last = self.resources[resource].request.replace((request, at));
        if let Some((old, since)) = last
            && since < looked
            && (old.lver > request.lver
                || (old.lver == request.lver
                    && old.force_mode != ForceMode::None
                    && request.force_mode == ForceMode::None))
        {
            let what = format!("resource {resource}: {old:?} was erased by {request:?}");
            self.object(at, what);
        }
        self.resources[resource].requests += 1;
    }

    /// A write to a sector that only `host` writes has executed.
    pub fn own_lands(&mut self, at: u64, host: (usize, u64), offset: u64, id: IoId, bytes: &[u8]) {
        let (number, life) = host;
        if let Some((of, lived, last, there)) = self.own.get(&offset)
            && (*of, *lived) == host
            && id < *last
            && **there != *bytes
        {
            let what =
                format!("{number}'s own sector at {offset} went back from {last:?} to {id:?}");
            self.object(at, what);
        }
        self.own.insert(offset, (number, life, id, bytes.into()));
    }

    /// A host was told that somebody wants what it holds.
    pub fn asked(&mut self, at: u64, resource: usize, host: usize) {
        self.owners_asked += 1;
        if self.resources[resource].requests == 0 {
            let what = format!("resource {resource}: {host} is asked to let go, by nobody");
            self.object(at, what);
        }
    }

    /// A leader was written over another: what was decided once is decided for ever, also when it is written late.
    pub fn leader(
        &mut self,
        at: u64,
        resource: usize,
        old: Option<PaxosLeader>,
        new: &PaxosLeader,
    ) {
        let owner = (new.owner_id, new.owner_generation);
        let decided = &mut self.resources[resource].decided;
        let (first, _) = *decided.entry(new.lver).or_insert((owner, at));
        let newer = decided.range(new.lver + 1..).next();
        let late = newer.map_or(0, |(_, (_, since))| at - since);
        if first != owner {
            let what = format!(
                "resource {resource}: version {} has two owners, {first:?} and {owner:?}",
                new.lver
            );
            self.object(at, what);
        }
        let Some(old) = old.filter(|old| old.lver > new.lver) else {
            return;
        };
        if new.is_free() && !old.is_free() {
            let what = format!(
                "resource {resource}: the release of version {} by {} erased owner {} of version {}",
                new.lver, new.write_id, old.owner_id, old.lver
            );
            self.object(at, what);
        } else {
            self.latest_commit = self.latest_commit.max(late);
        }
    }
}
