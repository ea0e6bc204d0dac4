//! Replicas that share objects, simulated: real members, fences and queues around an API server that keeps
//! their Leases, on clocks that differ, with a network that delays and loses, and with replicas frozen, killed
//! and stopped. No object may be worked on by two at once, no write may arrive from somebody who does not own
//! its object, and nothing may be left undone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;

use super::member::{Answer, Member, SHARDS, Step};
use super::table::{Slots, Table};
use crate::cache::Jitter;
use crate::lease::{Fence, LeaseTiming, Moment, Pass};
use crate::queue::{Outcome, Priority, Queue, Reasons};

const TIMING: LeaseTiming = LeaseTiming {
    lease: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};
const WORKERS: usize = 4;

enum Event {
    /// The member's driver looks what to do.
    Tick,
    Arrives(u64, Step),
    Answered(u64, Answer),
    /// An object changed; everybody's cache shows it.
    Changed(usize),
    /// A reconciliation that saw this generation of the object writes and ends.
    Writes(u64, usize, u32, Slots, u32),
    WriteArrives(u64, usize, u32, Slots, Pass),
    Freeze(u64),
    Kill,
    Stop,
}

struct Node {
    process: u64,
    alive: bool,
    stopping: bool,
    member: Member,
    fence: Arc<Fence>,
    request: u64,
    frozen_until: u64,
    speed: u64,
    active: Slots,
    queue: Queue<usize, u8>,
    running: HashMap<usize, Slots>,
    /// Until when writes of cancelled work may still arrive.
    unsettled: Instant,
    /// Work of an earlier term was cancelled with it.
    term: u32,
}

struct World {
    base: Instant,
    now: u64,
    random: Jitter,
    events: std::collections::BTreeMap<(u64, u64), (usize, Event)>,
    order: u64,
    nodes: Vec<Node>,
    leases: Vec<Lease>,
    revision: u64,
    processes: u64,
    slots: Vec<Slots>,
    generation: Vec<u32>,
    observed: Vec<u32>,
    writes: u64,
    overlaps: bool,
    loses: bool,
    name: HashMap<u64, String>,
}

impl World {
    fn new(seed: u64, replicas: usize, objects: usize, overlaps: bool, loses: bool) -> World {
        let mut world = World {
            base: Instant::now(),
            now: 0,
            random: Jitter::seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            events: Default::default(),
            order: 0,
            nodes: Vec::new(),
            leases: Vec::new(),
            revision: 0,
            processes: 0,
            slots: (0..objects)
                .map(|index| {
                    super::table::slot_of(&format!("{index}-{seed}-5b6ff1ea-0d4c-4f2e-8f1c-6d2a1c3b4d5e"))
                })
                .collect(),
            generation: vec![0; objects],
            observed: vec![0; objects],
            writes: 0,
            overlaps,
            loses,
            name: HashMap::new(),
        };
        for index in 0..replicas {
            let node = world.start();
            world.nodes.push(node);
            let first = world.below(3_000);
            world.at(first, index, Event::Tick);
        }
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.random.fraction() * bound as f64) as u64
    }

    fn start(&mut self) -> Node {
        self.processes += 1;
        let process = self.processes;
        Node {
            process,
            alive: true,
            stopping: false,
            member: Member::new("n", "g", &process.to_string(), TIMING, self.base),
            fence: Fence::new("n/g".into(), TIMING.margin()),
            request: process << 32,
            frozen_until: 0,
            speed: 900 + self.below(200),
            active: 0,
            queue: Queue::new(Queue::<usize, u8>::BACKOFF),
            running: HashMap::new(),
            unsettled: self.base,
            term: 0,
        }
    }

    fn at(&mut self, time: u64, node: usize, event: Event) {
        self.order += 1;
        self.events.insert((time, self.order), (node, event));
    }

    fn clock(&self, node: usize) -> Moment {
        let run = Duration::from_millis(self.now * self.nodes[node].speed / 1000);
        Moment { monotonic: self.base + run, wall: SystemTime::UNIX_EPOCH + Duration::from_millis(self.now) }
    }

    fn run_until(&mut self, horizon: u64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > horizon {
                break;
            }
            self.now = entry.key().0;
            let (node, event) = entry.remove();
            let frozen = self.nodes[node].frozen_until;
            let own = !matches!(event, Event::Arrives(..) | Event::WriteArrives(..) | Event::Kill);
            if own && frozen > self.now {
                self.at(frozen, node, event);
            } else if !own || self.nodes[node].alive {
                self.handle(node, event);
            }
        }
    }

    fn handle(&mut self, index: usize, event: Event) {
        let clock = self.clock(index);
        match event {
            Event::Tick => self.tick(index, clock),
            Event::Arrives(request, step) => {
                let answer = self.serve(step);
                let back = self.below(800);
                if !self.loses || self.below(20) != 0 {
                    self.at(self.now + back, index, Event::Answered(request, answer));
                }
            }
            Event::Answered(request, answer) => {
                let node = &mut self.nodes[index];
                if request == node.request {
                    node.request += 1;
                    node.member.answered(answer, clock);
                    self.tick(index, clock);
                }
            }
            Event::Changed(object) => {
                self.generation[object] += 1;
                for index in 0..self.nodes.len() {
                    let clock = self.clock(index);
                    self.nodes[index].queue.add(object, Priority::LIVE, 0, clock.monotonic);
                    self.work(index);
                }
            }
            Event::Writes(process, object, generation, slot, term) => {
                if self.nodes[index].process != process || self.nodes[index].term != term {
                    return;
                }
                match self.nodes[index].fence.pass(clock) {
                    Ok(mut pass) => {
                        assert_eq!(pass.turn(clock), Ok(()), "it is sent at once");
                        let way = 1 + self.below(if self.loses { 1_500 } else { 5 });
                        self.at(
                            self.now + way,
                            index,
                            Event::WriteArrives(process, object, generation, slot, pass),
                        );
                    }
                    Err(_) => self.finish(index, object, Outcome::Failed),
                }
            }
            Event::WriteArrives(process, object, generation, slot, pass) => {
                let owner = self.table().of(&self.name[&process]) & slot != 0;
                assert!(
                    owner,
                    "{} writes object {object} at {} ms without owning it",
                    self.name[&process], self.now
                );
                self.writes += 1;
                self.observed[object] = self.observed[object].max(generation);
                pass.answered();
                if self.nodes[index].process == process && self.nodes[index].alive {
                    self.finish(index, object, Outcome::Done);
                }
            }
            Event::Freeze(time) => self.nodes[index].frozen_until = self.now + time,
            Event::Kill => {
                self.nodes[index].alive = false;
                self.nodes[index].running.clear();
            }
            Event::Stop => {
                self.nodes[index].stopping = true;
                self.tick(index, clock);
            }
        }
    }

    fn table(&self) -> Table {
        let table = self.leases.iter().find(|lease| lease.metadata.name.as_deref() == Some("g-shards"));
        let annotations = table.and_then(|table| table.metadata.annotations.as_ref());
        annotations.map(|all| Table::parse(&all[SHARDS])).unwrap_or_default()
    }

    fn tick(&mut self, index: usize, clock: Moment) {
        let node = &mut self.nodes[index];
        if node.stopping {
            node.active = 0;
            if node.running.is_empty() && node.fence.is_quiet(clock.monotonic) {
                node.fence.close();
                node.alive = false;
                if let Some(step) = node.member.leave() {
                    self.at(self.now + 10, index, Event::Arrives(u64::MAX, step));
                }
            } else {
                self.at(self.now + 100, index, Event::Tick);
            }
            return;
        }
        let settled = clock.monotonic >= node.unsettled;
        let busy = node.running.values().fold(if settled { 0 } else { Slots::MAX }, |all, slot| all | slot);
        let step = node.member.step(clock, busy);
        match node.member.until() {
            Some(until) => node.fence.open(until),
            None => node.fence.close(),
        }
        let active = node.member.owned(clock);
        let gained = active & !std::mem::replace(&mut node.active, active);
        if !node.member.is_member(clock) {
            // The Lease may be gone: everything under way is cancelled, and what was sent may still arrive.
            if !node.running.is_empty() {
                node.unsettled = clock.monotonic + TIMING.lease;
            }
            node.running.clear();
            node.queue.clear();
            node.term += 1;
            node.active = 0;
        }
        for object in 0..self.slots.len() {
            if self.slots[object] & gained != 0 {
                self.nodes[index].queue.add(object, Priority::LOW, 0, clock.monotonic);
            }
        }
        self.work(index);
        let node = &mut self.nodes[index];
        self.name.insert(node.process, node.member.identity());
        match step {
            Step::Wait(until) => {
                let shown = u64::try_from((until - self.base).as_millis()).unwrap();
                let wake = (shown * 1000).div_ceil(node.speed).max(self.now + 1);
                self.at(wake, index, Event::Tick);
            }
            step => {
                let request = node.request;
                let way =
                    if self.loses && self.below(20) == 0 { self.below(12_000) } else { self.below(400) };
                if !self.loses || self.below(20) != 0 {
                    self.at(self.now + way, index, Event::Arrives(request, step));
                }
                self.at(self.now + 3_300, index, Event::Answered(request, Answer::Failed));
            }
        }
    }

    /// Hands out what the workers can take.
    fn work(&mut self, index: usize) {
        let clock = self.clock(index);
        loop {
            let node = &mut self.nodes[index];
            if !node.alive || node.frozen_until > self.now || node.running.len() >= WORKERS {
                return;
            }
            let Some(taken) = node.queue.take(clock.monotonic) else { return };
            let (object, slot) = (taken.key, self.slots[taken.key]);
            let _: &Reasons<u8> = &taken.reasons;
            if node.active & slot == 0 {
                node.queue.done(&object, Outcome::Done, 0, clock.monotonic);
                continue;
            }
            node.running.insert(object, slot);
            let process = node.process;
            if !self.overlaps {
                let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != index);
                for (_, other) in others {
                    assert!(
                        !other.running.contains_key(&object),
                        "two reconcile {object} at {} ms",
                        self.now
                    );
                }
            }
            let took = 1 + self.below(12);
            let (generation, term) = (self.generation[object], self.nodes[index].term);
            self.at(self.now + took, index, Event::Writes(process, object, generation, slot, term));
        }
    }

    fn finish(&mut self, index: usize, object: usize, outcome: Outcome) {
        let clock = self.clock(index);
        let node = &mut self.nodes[index];
        if node.running.remove(&object).is_some() {
            node.queue.done(&object, outcome, 0, clock.monotonic);
        }
        self.work(index);
    }

    /// The API server: each write a compare-and-swap, a list all of one moment.
    fn serve(&mut self, step: Step) -> Answer {
        let find =
            |leases: &[Lease], name: &Option<String>| leases.iter().position(|l| l.metadata.name == *name);
        let mut written = match step {
            Step::List => return Answer::Listed(self.leases.clone()),
            Step::Delete { name, uid, revision } => {
                let Some(index) = find(&self.leases, &Some(name)) else { return Answer::Conflict };
                let meta = &self.leases[index].metadata;
                if meta.uid.as_ref() != Some(&uid) || meta.resource_version.as_ref() != Some(&revision) {
                    return Answer::Conflict;
                }
                self.leases.swap_remove(index);
                return Answer::Deleted;
            }
            Step::Create(lease) if find(&self.leases, &lease.metadata.name).is_none() => lease,
            Step::Update(lease) => match find(&self.leases, &lease.metadata.name) {
                Some(index)
                    if self.leases[index].metadata.resource_version == lease.metadata.resource_version =>
                {
                    self.leases.swap_remove(index);
                    lease
                }
                _ => return Answer::Conflict,
            },
            _ => return Answer::Conflict,
        };
        self.revision += 1;
        written.metadata.resource_version = Some(self.revision.to_string());
        written.metadata.uid.get_or_insert_with(|| format!("u{}", self.revision));
        self.leases.push((*written).clone());
        Answer::Written(written)
    }

    fn done(&self) -> usize {
        self.generation.iter().zip(&self.observed).filter(|(wanted, seen)| wanted == seen).count()
    }
}

#[test]
fn of_three_shards_one_is_killed_during_a_storm_of_10_000_objects_and_each_is_reconciled_by_one_at_a_time() {
    for seed in 1..=3 {
        let mut world = World::new(seed, 3, 10_000, false, false);
        world.run_until(10_000);
        assert!(world.nodes.iter().all(|node| node.active.count_ones() >= 21), "the shards are settled");
        for object in 0..10_000 {
            for _ in 0..2 {
                let time = 10_000 + world.below(20_000);
                world.at(time, 0, Event::Changed(object));
            }
        }
        // Changes are the server's doing, so they must not die with a replica: the last one is killed.
        world.at(20_000, 2, Event::Kill);
        world.run_until(90_000);
        assert_eq!(world.done(), 10_000);
        assert!(world.writes >= 10_000);
        let shares: Vec<u32> =
            world.nodes.iter().map(|node| node.member.owned(world.clock(0)).count_ones()).collect();
        assert_eq!(shares[0] + shares[1], 64, "{shares:?}");
    }
}

#[test]
fn replicas_that_come_go_and_freeze_on_a_bad_network_never_write_to_what_is_anothers() {
    let mut writes = 0;
    for seed in 0..400 {
        // A frozen replica is still in the middle of its work when another takes over; but it can't write.
        let mut world = World::new(seed, 4, 40, true, true);
        for _ in 0..200 {
            let (time, object) = (world.below(100_000), world.below(40) as usize);
            world.at(time, 0, Event::Changed(object));
        }
        for index in 1..4 {
            for _ in 0..2 {
                let (time, long) = (world.below(80_000), world.below(40_000));
                world.at(time, index, Event::Freeze(long));
            }
        }
        let (time, late) = (world.below(60_000), world.below(60_000));
        world.at(time, 3, if seed % 2 == 0 { Event::Kill } else { Event::Stop });
        world.at(late, 2, Event::Stop);
        world.run_until(240_000);
        assert_eq!(world.done(), 40, "seed {seed}");
        writes += world.writes;
    }
    assert!(writes > 20_000, "{writes}");
}
