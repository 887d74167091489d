//! Finds parts of names, hostnames and serial numbers.
//!
//! A device's text is its fields, lower-cased, each followed by two [`END`] bytes. Every byte of a field thus starts
//! a trigram (three bytes in a row), and each trigram knows the slots whose text has it. So a query of three bytes is
//! one set, a shorter one is the union of the trigrams that start with it, and a longer one is the intersection of its
//! trigrams, which says where to look: only there is the text itself searched.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::{memchr, memmem};
use roaring::RoaringBitmap;

use super::slots::{Slots, union};

/// Ends a field. No UTF-8 text has this byte, so that nothing is found across two fields.
const END: u8 = 0xFF;

type Trigram = [u8; 3];

/// So many trigrams are sorted before their sets are looked for: looking for each one's set, all over the memory, is
/// what takes the time when a fleet is built. Low in tests, so that there are several batches.
const BATCH: usize = if cfg!(test) { 64 } else { 1 << 19 };

#[derive(Debug, Default)]
pub(super) struct Search {
    trigrams: BTreeMap<Trigram, Slots>,
}

impl Search {
    /// Of the texts of slots 0, 1, 2, ….
    pub fn new<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut search = Self::default();
        let mut pairs = Vec::new();
        for (slot, text) in texts.enumerate() {
            pairs.extend(trigrams(text).map(|trigram| (trigram, super::number(slot))));
            if pairs.len() >= BATCH {
                search.append(&mut pairs);
            }
        }
        search.append(&mut pairs);
        search.trigrams.values_mut().for_each(Slots::trim);
        // A tree made from a sorted list has no half-empty nodes.
        search.trigrams = search.trigrams.into_iter().collect();
        search
    }

    fn append(&mut self, pairs: &mut Vec<(Trigram, u32)>) {
        sort_by_trigram(pairs);
        pairs.dedup();
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            self.trigrams.entry(same[0].0).or_default().append(same.iter().map(|&(_, slot)| slot));
        }
        pairs.clear();
    }

    pub fn insert(&mut self, slot: u32, text: &[u8]) {
        for trigram in trigrams(text) {
            self.trigrams.entry(trigram).or_default().insert(slot);
        }
    }

    pub fn remove(&mut self, slot: u32, text: &[u8]) {
        for trigram in trigrams(text) {
            // Missing when the text has the trigram twice.
            if let Some(slots) = self.trigrams.get_mut(&trigram) {
                slots.remove(slot);
                if slots.is_empty() {
                    self.trigrams.remove(&trigram);
                }
            }
        }
    }

    /// The slots whose text may contain the query: exactly those that do, unless [`Query::must_verify`].
    pub fn candidates(&self, query: &Query) -> Cow<'_, RoaringBitmap> {
        let bytes = query.bytes.as_slice();
        if bytes.len() < 3 {
            let (mut first, mut last) = ([0; 3], [END; 3]);
            first[..bytes.len()].copy_from_slice(bytes);
            last[..bytes.len()].copy_from_slice(bytes);
            return union(self.trigrams.range(first..=last).map(|(_, slots)| slots));
        }
        let Some(mut sets) = trigrams(bytes).map(|t| self.trigrams.get(&t)).collect::<Option<Vec<_>>>() else {
            return Cow::default();
        };
        sets.sort_unstable_by_key(|slots| slots.len());
        let mut sets = sets.into_iter().map(Slots::bitmap);
        let mut found = sets.next().unwrap_or_default();
        for set in sets {
            *found.to_mut() &= &*set;
        }
        found
    }
}

fn trigrams(text: &[u8]) -> impl Iterator<Item = Trigram> {
    text.array_windows().copied().filter(|trigram| trigram[0] != END)
}

/// Sorts by trigram and leaves equal ones as they are: a counting sort of one byte after the other, which takes a
/// fifth of the time of a sort by comparison.
fn sort_by_trigram(pairs: &mut Vec<(Trigram, u32)>) {
    let mut sorted = pairs.clone();
    for byte in (0..3).rev() {
        let mut places = [0; 257];
        pairs.iter().for_each(|(trigram, _)| places[usize::from(trigram[byte]) + 1] += 1);
        for value in 1..places.len() {
            places[value] += places[value - 1];
        }
        for pair in &*pairs {
            let place = &mut places[usize::from(pair.0[byte])];
            sorted[*place] = *pair;
            *place += 1;
        }
        std::mem::swap(pairs, &mut sorted);
    }
}

/// What is looked for.
pub(super) struct Query {
    bytes: Vec<u8>,
}

impl Query {
    /// `None` for empty text, which everything contains.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(text.len());
        lower(text, &mut bytes);
        (!bytes.is_empty()).then_some(Self { bytes })
    }

    pub fn must_verify(&self) -> bool {
        self.bytes.len() > 3
    }

    pub fn finder(&self) -> memmem::Finder<'_> {
        memmem::Finder::new(&self.bytes)
    }
}

/// The searchable text of a device. Its first field is the name.
pub(super) fn text(name: &str, hostname: Option<&str>, serial: Option<&str>) -> Box<[u8]> {
    let fields = [Some(name), hostname, serial];
    let mut text = Vec::with_capacity(fields.iter().flatten().map(|field| field.len() + 2).sum());
    for field in fields.into_iter().flatten() {
        lower(field, &mut text);
        text.extend([END; 2]);
    }
    text.into_boxed_slice()
}

/// The lower-cased name in a device's text.
pub(super) fn name(text: &[u8]) -> &[u8] {
    &text[..memchr(END, text).unwrap_or(text.len())]
}

/// Lower-cases character by character: `str::to_lowercase` looks at what surrounds a sigma, and would give a part
/// of a word other letters than the whole.
fn lower(text: &str, into: &mut Vec<u8>) {
    if text.is_ascii() {
        into.extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
        return;
    }
    for letter in text.chars().flat_map(char::to_lowercase) {
        let letter = if letter == 'ς' { 'σ' } else { letter };
        into.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
impl Search {
    pub fn sizes(&self) -> Vec<(Trigram, u64)> {
        self.trigrams.iter().map(|(&trigram, slots)| (trigram, slots.len())).collect()
    }
}
