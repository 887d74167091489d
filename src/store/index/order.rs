//! Slots in the order of something that changes.

use roaring::RoaringBitmap;

/// A block is split when it would grow past this many slots. Low in tests, so that they split and join blocks.
const BLOCK: usize = if cfg!(test) { 8 } else { 1024 };

/// No two neighbours are both smaller than this, so that blocks are few however slots come and go.
const SMALL: usize = BLOCK / 4;

/// A part of a list: `take` after the first `skip`, counted from the end and in reverse if `backwards`.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub skip: u64,
    pub take: usize,
    pub backwards: bool,
}

/// A sorted list of slots, cut into blocks: a change moves no more than one block, a deep page skips whole blocks.
///
/// The order does not know what it is sorted by. Each change is given `key`, which must tell slots apart, and must say
/// the same of a slot from its insertion to its removal.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// None is empty.
    blocks: Vec<Vec<u32>>,
}

impl Order {
    pub fn new<K: Ord>(slots: impl Iterator<Item = u32>, key: impl Fn(u32) -> K) -> Self {
        let mut slots: Vec<u32> = slots.collect();
        slots.sort_by_cached_key(|&slot| key(slot));
        Self { blocks: slots.chunks(BLOCK).map(<[u32]>::to_vec).collect() }
    }

    pub fn insert<K: Ord>(&mut self, slot: u32, key: impl Fn(u32) -> K) {
        let (mut block, place) = self.find(slot, key);
        let Err(mut at) = place else { return };
        let is_last = block + 1 >= self.blocks.len();
        match self.blocks.get_mut(block) {
            None => self.blocks.push(Vec::new()),
            Some(full) if full.len() >= BLOCK => {
                // Splitting at the end lets a list that only grows at its end fill its blocks.
                let middle = if is_last && at == full.len() { at } else { full.len() / 2 };
                let rest = full.split_off(middle);
                self.blocks.insert(block + 1, rest);
                if at >= middle {
                    (block, at) = (block + 1, at - middle);
                }
            }
            Some(_) => {}
        }
        self.blocks[block].insert(at, slot);
    }

    pub fn remove<K: Ord>(&mut self, slot: u32, key: impl Fn(u32) -> K) {
        let (block, Ok(at)) = self.find(slot, key) else { return };
        self.blocks[block].remove(at);
        match self.blocks[block].len() {
            0 => drop(self.blocks.remove(block)),
            1..SMALL => {
                self.join(block);
                if block > 0 {
                    self.join(block - 1);
                }
            }
            _ => {}
        }
    }

    /// Moves the next block into this one, if they are small enough together.
    fn join(&mut self, block: usize) {
        let Some(next) = self.blocks.get(block + 1) else { return };
        if self.blocks[block].len() + next.len() <= 2 * SMALL {
            let next = self.blocks.remove(block + 1);
            self.blocks[block].extend(next);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.blocks.iter().flatten().copied()
    }

    /// A part of the list of those slots that are `wanted`.
    pub fn page(&self, mut wanted: Wanted<'_>, Place { skip, take, backwards }: Place) -> Vec<u32> {
        let mut found = Vec::new();
        let mut skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for nth in 0..self.blocks.len() {
            let block = &self.blocks[if backwards { self.blocks.len() - 1 - nth } else { nth }];
            if skip > 0 {
                let count = wanted.count(block);
                if count <= skip {
                    skip -= count;
                    continue;
                }
            }
            wanted.expect(block.len());
            for nth in 0..block.len() {
                if found.len() == take {
                    return found;
                }
                let slot = block[if backwards { block.len() - 1 - nth } else { nth }];
                if wanted.contains(slot) {
                    if skip > 0 { skip -= 1 } else { found.push(slot) }
                }
            }
        }
        found
    }

    /// The block that holds the slot, or should, and where in it. Block 0 when there is none yet.
    fn find<K: Ord>(&self, slot: u32, key: impl Fn(u32) -> K) -> (usize, Result<usize, usize>) {
        let sought = key(slot);
        let block = self.blocks.partition_point(|block| key(block[0]) <= sought).saturating_sub(1);
        let place = match self.blocks.get(block) {
            Some(slots) => slots.binary_search_by(|&other| key(other).cmp(&sought)),
            None => Err(0),
        };
        (block, place)
    }
}

#[cfg(test)]
impl Order {
    pub fn check(&self) {
        assert!(self.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
        assert!(self.blocks.windows(2).all(|pair| pair[0].len() >= SMALL || pair[1].len() >= SMALL));
    }
}

/// The slots that a page is made of.
pub(super) enum Wanted<'a> {
    /// All that the order has.
    All,
    Some {
        slots: &'a RoaringBitmap,
        /// Questions left until they have cost as much as making the bits.
        patience: usize,
    },
    /// One bit a slot. In no order, a bitmap takes five times as long to ask.
    Bits(Vec<u64>),
}

impl<'a> Wanted<'a> {
    pub fn new(slots: &'a RoaringBitmap) -> Self {
        // Up to a quarter of a set can be looked up in the time it takes to make bits of it.
        Self::Some { slots, patience: usize::try_from(slots.len() / 4).unwrap_or(usize::MAX) }
    }

    /// So many more questions come. Nobody knows how many in all: bits are made once they would have been cheaper.
    fn expect(&mut self, questions: usize) {
        if let Self::Some { slots, patience } = self {
            match patience.checked_sub(questions) {
                Some(left) => *patience = left,
                None => *self = Self::Bits(bits(slots)),
            }
        }
    }

    fn contains(&self, slot: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some { slots, .. } => slots.contains(slot),
            Self::Bits(bits) => bit(bits, slot),
        }
    }

    fn count(&mut self, block: &[u32]) -> usize {
        self.expect(block.len());
        match self {
            Self::All => block.len(),
            Self::Some { slots, .. } => block.iter().filter(|&&slot| slots.contains(slot)).count(),
            Self::Bits(bits) => block.iter().filter(|&&slot| bit(bits, slot)).count(),
        }
    }
}

fn bit(bits: &[u64], slot: u32) -> bool {
    bits.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
}

/// As long as the last slot needs.
fn bits(slots: &RoaringBitmap) -> Vec<u64> {
    let mut words = vec![0; slots.max().map_or(0, |last| last as usize / 64 + 1)];
    let mut buffer = [0; 1024];
    let mut slots = slots.iter();
    loop {
        let some = slots.next_many(&mut buffer);
        if some.is_empty() {
            return words;
        }
        for &mut slot in some {
            words[slot as usize / 64] |= 1 << (slot % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fleet that shrinks leaves blocks of one device each, and every list walks through all of them.
    #[test]
    fn blocks_are_joined_from_whichever_end_they_empty() {
        let all: Vec<u32> = (0..100).collect();
        let gone: Vec<u32> = all.iter().copied().filter(|slot| slot % BLOCK as u32 != 0).collect();
        for gone in [gone.clone(), gone.into_iter().rev().collect()] {
            let mut order = Order::new(all.iter().copied(), |slot| slot);
            gone.iter().for_each(|&slot| order.remove(slot, |slot| slot));
            order.check();
            assert!(order.iter().eq(all.iter().copied().filter(|slot| slot % BLOCK as u32 == 0)));
        }
    }
}
