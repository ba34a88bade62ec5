//! New inputs from old ones.

use crate::world::chance::Chance;

/// Changes made to one input at most.
const CHANGES_MAX: u64 = 6;

/// Pieces of the corpus that are put elsewhere.
const WORDS_MAX: usize = 4_096;

/// Numbers at which things change.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes inputs, by chance alone.
#[derive(Debug)]
pub(super) struct Mutator {
    words: Vec<Vec<u8>>,
    bytes_max: usize,
}

impl Mutator {
    /// With the words of a corpus.
    pub(super) fn new(corpus: &[Vec<u8>], bytes_max: usize) -> Self {
        let pieces = corpus.iter().flat_map(|input| {
            [2, 4, 8, 16]
                .into_iter()
                .flat_map(|size| input.chunks(size).map(<[u8]>::to_vec))
        });
        // Those of every part of the corpus, however large its first inputs are.
        let pieces: Vec<Vec<u8>> = pieces.collect();
        let step = pieces.len().div_ceil(WORDS_MAX).max(1);
        Self {
            words: pieces.into_iter().step_by(step).collect(),
            bytes_max,
        }
    }

    /// One input of the population, changed.
    pub(super) fn mutate(&self, population: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
        let pick = |chance: &mut Chance| &population[chance.below(population.len() as u64) as usize];
        let mut input = pick(chance).clone();
        for _ in 0..=chance.below(CHANGES_MAX) {
            let other = pick(chance);
            self.change(&mut input, other, chance);
        }
        input.truncate(self.bytes_max);
        input
    }

    fn change(&self, input: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
        let length = input.len();
        let at = chance.below(length as u64 + 1) as usize;
        let some = |chance: &mut Chance, most: usize| chance.below(most as u64 + 1) as usize;
        match chance.below(11) {
            0 if at < length => input[at] ^= 1 << chance.below(8),
            1 if at < length => input[at] = chance.next() as u8,
            2 => input.truncate(at),
            3 if at < length => {
                let end = at + 1 + some(chance, (length - at - 1).min(32));
                input.drain(at..end);
            }
            4 => {
                let count = 1 + some(chance, 15);
                let noise: Vec<u8> = (0..count).map(|_| chance.next() as u8).collect();
                input.splice(at..at, noise);
            }
            5 => {
                // Repeat a piece.
                let end = at + some(chance, (length - at).min(64));
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            6 => {
                // Go on as another input does from somewhere.
                let from = chance.below(other.len() as u64 + 1) as usize;
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 => {
                let number = edge(chance).to_le_bytes();
                overwrite(input, at, &number[..1 << chance.below(4)]);
            }
            8 => {
                // In place of a varint, so that what follows keeps its meaning.
                let end = (at..length)
                    .find(|&i| input[i] < 0x80)
                    .map_or(at, |last| last + 1);
                input.splice(at..end, varint(edge(chance)));
            }
            9 if !self.words.is_empty() => {
                let word = &self.words[chance.below(self.words.len() as u64) as usize];
                if chance.one_in(2) {
                    overwrite(input, at, word);
                } else {
                    input.splice(at..at, word.iter().copied());
                }
            }
            10 if at < length => input[at] = input[at].wrapping_add(if chance.one_in(2) { 1 } else { 255 }),
            _ => input.push(chance.next() as u8),
        }
    }
}

/// A number at an edge, or one beside it, or any.
fn edge(chance: &mut Chance) -> u64 {
    let edge = EDGES[chance.below(EDGES.len() as u64) as usize];
    match chance.below(4) {
        0 => chance.next() >> chance.below(64),
        1 => edge.wrapping_add(1),
        _ => edge,
    }
}

fn overwrite(input: &mut [u8], at: usize, with: &[u8]) {
    for (old, new) in input.iter_mut().skip(at).zip(with) {
        *old = *new;
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_stay_within_their_length_and_differ() {
        let corpus = vec![vec![7; 40], b"some words".to_vec()];
        let mutator = Mutator::new(&corpus, 48);
        let mut chance = Chance::new(1);
        let inputs: std::collections::BTreeSet<Vec<u8>> =
            (0..1_000).map(|_| mutator.mutate(&corpus, &mut chance)).collect();
        assert!(inputs.len() > 800, "{}", inputs.len());
        assert!(inputs.iter().all(|input| input.len() <= 48));
    }

    #[test]
    fn varints_are_those_of_postcard() {
        for number in EDGES {
            assert_eq!(varint(number), postcard::to_allocvec(&number).unwrap());
        }
    }
}
