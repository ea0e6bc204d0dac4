//! Leader election against every kind of bad luck, simulated: two or three managers whose clocks differ by a
//! lease and run at different speeds, frozen, suspended, stopped and killed at random, also between the fence and the
//! request that it let pass, on a network that delays and loses, around one Lease with optimistic concurrency. Nobody's write may arrive while another has the
//! Lease. What is simulated is the machinery itself: elections, fences and releases.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;

use super::election::{Answer, Election, Step};
use crate::cache::Jitter;
use crate::lease::{Fence, LeaseTiming, Moment, Pass, holder};

const TIMING: LeaseTiming = LeaseTiming {
    lease: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};
/// Longest way of a write, in ms: what is left of the margin of 5 s when clocks differ by a tenth in speed.
const WAY: u64 = 2_000;
/// Virtual milliseconds a schedule.
const HORIZON: u64 = 50_000;

enum Event {
    /// The election's driver looks what to do.
    Tick,
    /// The election's request of this number arrives at the server.
    Arrives(u64, Step),
    /// The answer to request number so-and-so comes back, or its time is up.
    Answered(u64, Answer),
    /// A reconciler writes.
    Write,
    /// What passed the fence is sent, as soon as its thread gets to run.
    Sends(Pass),
    /// Its write arrives, by the identity that sent it.
    WriteArrives(u64, Pass),
    /// The process stops in good order: the release follows as soon as no write is on its way.
    Stop,
    /// The process stands still for so long, or its whole machine does.
    Freeze(u64, bool),
    /// The process is gone and another starts.
    Restart,
}

struct Node {
    identity: u64,
    election: Election,
    fence: Arc<Fence>,
    jitter: Jitter,
    request: u64,
    stopping: bool,
    frozen_until: u64,
    /// The monotonic clock: thousandths of real speed, and what it lost while the machine was suspended.
    speed: u64,
    lost: u64,
    skew: u64,
}

struct Random(Jitter);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        (self.0.fraction() * bound as f64) as u64
    }
}

#[derive(Default, Debug)]
struct Seen {
    writes: u64,
    refused: u64,
    /// Writes that had passed the fence and were not sent any more.
    late: u64,
    holders: u64,
    releases: u64,
}

struct World {
    base: Instant,
    epoch: SystemTime,
    now: u64,
    random: Random,
    events: Vec<(u64, usize, Event)>,
    nodes: Vec<Node>,
    lease: Option<Lease>,
    revision: u64,
    identities: u64,
    seen: Seen,
}

impl World {
    fn new(seed: u64, base: Instant) -> World {
        let mut world = World {
            base,
            epoch: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            now: 0,
            random: Random(Jitter::seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
            events: Vec::new(),
            nodes: Vec::new(),
            lease: None,
            revision: 0,
            identities: 0,
            seen: Seen::default(),
        };
        for index in 0..2 + usize::from(seed.is_multiple_of(4)) {
            let node = world.start();
            world.nodes.push(node);
            let first = world.random.below(3_000);
            world.at(first, index, Event::Tick);
            world.at(first, index, Event::Write);
            let luck = world.random.below(HORIZON);
            world.misfortune(luck, index);
        }
        world
    }

    fn start(&mut self) -> Node {
        self.identities += 1;
        let identity = self.identities;
        let speed = 900 + self.random.below(200);
        let election = Election::new("n", "l", &identity.to_string(), TIMING, self.base);
        Node {
            identity,
            election,
            fence: Fence::new("n/l".into(), TIMING.margin()),
            jitter: Jitter::seeded(self.random.below(u64::MAX >> 12)),
            // What a process before it asked for is not answered to it.
            request: identity << 32,
            stopping: false,
            frozen_until: 0,
            speed,
            lost: 0,
            skew: self.random.below(30_000),
        }
    }

    fn at(&mut self, time: u64, node: usize, event: Event) {
        self.events.push((time, node, event));
    }

    fn misfortune(&mut self, time: u64, node: usize) {
        let event = match self.random.below(8) {
            0..4 => Event::Freeze(self.random.below(40_000), false),
            4 | 5 => Event::Freeze(self.random.below(40_000), true),
            6 => Event::Stop,
            _ => Event::Restart,
        };
        self.at(time, node, event);
    }

    /// What the clocks of a node show. The wall clock goes on while the machine is suspended.
    fn clock(&self, node: usize) -> Moment {
        let node = &self.nodes[node];
        let run = (self.now - node.lost.min(self.now)) * node.speed / 1000;
        Moment {
            monotonic: self.base + Duration::from_millis(run),
            wall: self.epoch + Duration::from_millis(node.skew + self.now),
        }
    }

    /// When a node's monotonic clock will show this.
    fn real(&self, node: usize, until: Instant) -> u64 {
        let node = &self.nodes[node];
        let shown = u64::try_from((until - self.base).as_millis()).unwrap();
        (shown * 1000).div_ceil(node.speed) + node.lost
    }

    fn run(mut self) -> Seen {
        loop {
            let next = self.events.iter().enumerate().min_by_key(|(_, (time, ..))| *time);
            let Some((index, &(time, ..))) = next else { break };
            if time > HORIZON {
                break;
            }
            let (time, node, event) = self.events.swap_remove(index);
            self.now = time.max(self.now);
            let frozen = self.nodes[node].frozen_until;
            if frozen > self.now && !matches!(event, Event::Arrives(..) | Event::WriteArrives(..)) {
                self.at(frozen, node, event);
                continue;
            }
            self.handle(node, event);
        }
        self.seen
    }

    fn handle(&mut self, index: usize, event: Event) {
        let clock = self.clock(index);
        match event {
            Event::Tick => self.tick(index, clock),
            Event::Answered(request, answer) => {
                let node = &mut self.nodes[index];
                if request != node.request {
                    return;
                }
                node.request += 1;
                node.election.answered(answer, clock, &mut node.jitter);
                self.at(self.now, index, Event::Tick);
            }
            Event::Arrives(request, step) => {
                let answer = self.serve(step);
                let back = self.random.below(2_000);
                if self.random.below(20) != 0 {
                    self.at(self.now + back, index, Event::Answered(request, answer));
                }
            }
            Event::Write => {
                let next = self.now + 1 + self.random.below(5_000);
                self.at(next, index, Event::Write);
                match self.nodes[index].fence.pass(clock) {
                    Ok(pass) => {
                        let mut sends = self.now;
                        match self.random.below(60) {
                            // Its thread alone stands still.
                            0 => sends += self.random.below(20_000),
                            // The whole process does, or the machine.
                            1 => {
                                let (time, suspended) =
                                    (self.random.below(20_000), self.random.below(2) == 0);
                                self.freeze(index, time, suspended);
                            }
                            _ => {}
                        }
                        self.at(sends, index, Event::Sends(pass));
                    }
                    Err(_) => self.seen.refused += 1,
                }
            }
            Event::Sends(mut pass) => match pass.turn(clock) {
                Ok(()) => {
                    let arrives = self.now + self.random.below(WAY);
                    self.at(arrives, index, Event::WriteArrives(self.nodes[index].identity, pass));
                }
                Err(_) => self.seen.late += 1,
            },
            Event::WriteArrives(identity, pass) => {
                let held = self.lease.as_ref().map(holder).unwrap_or_default();
                assert_eq!(held, identity.to_string(), "a write of {identity} arrives at {} ms", self.now);
                self.seen.writes += 1;
                // Some answers are lost: the effect is unknown to the writer.
                if self.random.below(10) != 0 {
                    pass.answered();
                }
            }
            Event::Stop => {
                let node = &mut self.nodes[index];
                node.stopping = true;
                node.fence.close();
                self.at(self.now + 5_000, index, Event::Restart);
                self.release(index, clock);
            }
            Event::Freeze(time, suspended) => {
                self.freeze(index, time, suspended);
                let next = self.now + time + self.random.below(HORIZON / 2);
                self.misfortune(next, index);
            }
            Event::Restart => {
                self.nodes[index] = self.start();
                let skipped = self.now;
                self.nodes[index].lost = skipped;
                self.events.retain(|(_, node, event)| {
                    *node != index || matches!(event, Event::Arrives(..) | Event::WriteArrives(..))
                });
                self.at(self.now, index, Event::Tick);
                self.at(self.now, index, Event::Write);
                let luck = self.now + self.random.below(HORIZON / 2);
                self.misfortune(luck, index);
            }
        }
    }

    fn freeze(&mut self, index: usize, time: u64, suspended: bool) {
        let node = &mut self.nodes[index];
        node.frozen_until = self.now + time;
        node.lost += if suspended { time } else { 0 };
    }

    fn tick(&mut self, index: usize, clock: Moment) {
        let node = &mut self.nodes[index];
        if node.stopping {
            return self.release(index, clock);
        }
        let step = node.election.step(clock);
        match node.election.until() {
            Some(until) => node.fence.open(until),
            None => node.fence.close(),
        }
        match step {
            Step::Wait(until) => {
                let wake = self.real(index, until).max(self.now + 1);
                self.at(wake, index, Event::Tick);
            }
            step => {
                let request = node.request;
                // Mostly quick, sometimes after anybody has given up waiting, sometimes lost.
                let way = match self.random.below(20) {
                    0 => None,
                    1 => Some(self.random.below(20_000)),
                    _ => Some(self.random.below(1_000)),
                };
                if let Some(way) = way {
                    self.at(self.now + way, index, Event::Arrives(request, step));
                }
                self.at(self.now + 3_300, index, Event::Answered(request, Answer::Failed));
            }
        }
    }

    fn release(&mut self, index: usize, clock: Moment) {
        let node = &mut self.nodes[index];
        if !node.fence.is_quiet(clock.monotonic) {
            self.at(self.now + 500, index, Event::Tick);
            return;
        }
        if let Some(lease) = node.election.release(clock) {
            let way = self.random.below(1_000);
            self.at(self.now + way, index, Event::Arrives(u64::MAX, Step::Update(lease)));
            self.seen.releases += 1;
        }
    }

    /// The API server: a compare-and-swap.
    fn serve(&mut self, step: Step) -> Answer {
        let mut written = match (step, &self.lease) {
            (Step::Read, None) => return Answer::Missing,
            (Step::Read, Some(lease)) => return Answer::Found(Box::new(lease.clone())),
            (Step::Create(lease), None) => lease,
            (Step::Update(lease), Some(kept))
                if lease.metadata.resource_version == kept.metadata.resource_version =>
            {
                lease
            }
            _ => return Answer::Conflict,
        };
        self.revision += 1;
        written.metadata.resource_version = Some(self.revision.to_string());
        if self.lease.as_ref().map(holder) != Some(holder(&written)) {
            self.seen.holders += 1;
        }
        self.lease = Some((*written).clone());
        Answer::Written(written)
    }
}

fn run(seeds: std::ops::Range<u64>) -> Seen {
    let base = Instant::now();
    let mut all = Seen::default();
    for seed in seeds {
        let seen = World::new(seed, base).run();
        all.writes += seen.writes;
        all.refused += seen.refused;
        all.late += seen.late;
        all.holders += seen.holders;
        all.releases += seen.releases;
    }
    all
}

#[test]
fn no_two_managers_ever_write_at_once_in_100_000_schedules() {
    let halves = [0..50_000, 50_000..100_000].map(|seeds| std::thread::spawn(move || run(seeds)));
    let mut total = Seen::default();
    for half in halves {
        let seen = half.join().unwrap();
        total.writes += seen.writes;
        total.refused += seen.refused;
        total.late += seen.late;
        total.holders += seen.holders;
        total.releases += seen.releases;
    }
    // The schedules are worth something: leaders wrote, others were refused, and the Lease changed hands.
    assert!(total.writes > 200_000 && total.refused > 200_000, "{total:?}");
    assert!(total.late > 2_000, "{total:?}");
    assert!(total.holders > 100_000 && total.releases > 2_000, "{total:?}");
}
