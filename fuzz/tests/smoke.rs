//! Every target with a fixed number of inputs: its seeds, their mutations, and noise. The same inputs each time.

use ferry_fuzz::TARGETS;

/// Inputs for each target beside its seeds.
const INPUTS: usize = 20_000;

/// The largest input, bytes.
const LEN_MAX: usize = 4096;

/// A small generator (xorshift64*); no cryptography is needed here.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound.max(1)
    }

    /// A seed with some of its bytes changed, doubled, cut out, or replaced by numbers that hurt.
    fn mutated(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len());
            let end = (at + self.below(16)).min(bytes.len());
            match self.below(6) {
                0 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << (at % 8)),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.extend_from_within(at..end),
                3 => {
                    let words = [0_u32, 1, 27, 28, 65, 16385, 0x7fff_ffff, 0x8000_0000, u32::MAX];
                    let word = words[self.below(words.len())].to_be_bytes();
                    bytes.splice(at..(at + 4).min(bytes.len()), word);
                }
                4 => bytes.truncate(at + 1),
                _ => bytes.insert(at, self.next() as u8),
            }
        }
        bytes.truncate(LEN_MAX);
        bytes
    }
}

#[test]
fn no_target_breaks() {
    for (name, target, seeds) in TARGETS {
        println!("{name}");
        let (mut random, seeds) = (Random(0x5eed), seeds());
        assert!(!seeds.is_empty(), "{name} has seeds");
        seeds.iter().for_each(|seed| target(seed));
        for input in 0..INPUTS {
            if input % 8 == 0 {
                let len = random.below(200);
                let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                target(&noise);
            } else {
                let seed = &seeds[random.below(seeds.len())];
                target(&random.mutated(seed));
            }
        }
    }
}

/// The seeds are what they claim to be, or the mutations would start from nonsense.
#[test]
fn seeds_are_accepted() {
    let accepted = |name: &str| {
        let (_, _, seeds) = TARGETS.iter().find(|target| target.0 == name).expect("a target");
        seeds().swap_remove(0)
    };
    ferry_domxml::Domain::parse_bytes(&accepted("domain_xml")).unwrap();
    let expected = ferry_migration::cookie::Expected {
        name: Some("vm"),
        uuid: None,
        host_uuid: ferry_domxml::Uuid::nil(),
    };
    let reader = ferry_migration::cookie::Reader::Finish;
    let cookie = ferry_migration::cookie::Cookie::parse(&accepted("cookie"), reader, &expected);
    assert!(cookie.unwrap().is_some_and(|cookie| cookie.statistics.is_some()));
    let mut session = ferry_qmp::Session::new(1);
    session.handle_bytes(&accepted("qmp")[1..]).unwrap();
    assert!(session.poll_event().is_some());
}
