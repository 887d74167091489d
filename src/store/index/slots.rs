//! A set of slots that costs little when it holds few.

use std::borrow::Cow;

use roaring::RoaringBitmap;

/// Up to this many slots are kept as a sorted list. A bitmap costs about 150 bytes before its first bit, and 50 more
/// for each 65,536 slots that it reaches into: too much for every user and every rare trigram. Low in tests, so that
/// they cross it.
const FEW: usize = if cfg!(test) { 4 } else { 256 };

/// So many unsorted slots are worth a bit for every slot there is. Low in tests, so that both ways are taken.
const MANY: usize = if cfg!(test) { 8 } else { 1024 };

#[derive(Debug)]
pub(super) enum Slots {
    /// Ascending, without duplicates.
    Few(Vec<u32>),
    Many(Box<RoaringBitmap>),
}

impl Default for Slots {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Slots {
    pub fn insert(&mut self, slot: u32) {
        match self {
            Self::Many(bitmap) => {
                bitmap.insert(slot);
            }
            Self::Few(list) => {
                let Err(at) = position(list, slot) else { return };
                if list.len() == FEW {
                    let mut bitmap: RoaringBitmap = list.iter().copied().collect();
                    bitmap.insert(slot);
                    *self = Self::Many(Box::new(bitmap));
                    return;
                }
                if list.len() == list.capacity() {
                    // Doubling would waste more than the slots themselves take.
                    list.reserve_exact(list.len() / 4 + 1);
                }
                list.insert(at, slot);
            }
        }
    }

    /// Adds many slots; fast when they ascend and come after those already here.
    pub fn append(&mut self, slots: impl ExactSizeIterator<Item = u32> + Clone) {
        match self {
            Self::Few(list) if list.len() + slots.len() <= FEW => {
                list.reserve_exact(slots.len());
                slots.for_each(|slot| self.insert(slot));
            }
            Self::Few(list) => {
                *self = Self::Many(Box::new(list.iter().copied().collect()));
                self.append(slots);
            }
            Self::Many(bitmap) => {
                if bitmap.append(slots.clone()).is_err() {
                    bitmap.extend(slots);
                }
            }
        }
    }

    /// Gives back the memory kept for more slots.
    pub fn trim(&mut self) {
        match self {
            Self::Few(list) => list.shrink_to_fit(),
            // A copy has no room to spare.
            Self::Many(bitmap) => *bitmap = bitmap.clone(),
        }
    }

    pub fn remove(&mut self, slot: u32) {
        match self {
            Self::Many(bitmap) => {
                bitmap.remove(slot);
                // Half of the limit, so that a set at the limit does not change its form with every change.
                if bitmap.len() <= FEW as u64 / 2 {
                    *self = Self::Few(bitmap.iter().collect());
                }
            }
            Self::Few(list) => {
                if let Ok(at) = position(list, slot) {
                    list.remove(at);
                }
            }
        }
    }

    pub fn contains(&self, slot: u32) -> bool {
        match self {
            Self::Few(list) => list.binary_search(&slot).is_ok(),
            Self::Many(bitmap) => bitmap.contains(slot),
        }
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::Few(list) => list.len() as u64,
            Self::Many(bitmap) => bitmap.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bitmap(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Self::Few(list) => Cow::Owned(list.iter().copied().collect()),
            Self::Many(bitmap) => Cow::Borrowed(bitmap),
        }
    }
}

/// Slots mostly come in ascending order, so the end is tried first.
fn position(list: &[u32], slot: u32) -> Result<usize, usize> {
    if list.last().is_none_or(|&last| last < slot) { Err(list.len()) } else { list.binary_search(&slot) }
}

/// The union; borrowed when it is one large set.
pub(super) fn union<'a>(sets: impl IntoIterator<Item = &'a Slots>) -> Cow<'a, RoaringBitmap> {
    let (mut large, mut small) = (None::<Cow<'_, RoaringBitmap>>, Vec::new());
    for set in sets {
        match (set, &mut large) {
            (Slots::Few(list), _) => small.extend_from_slice(list),
            (Slots::Many(bitmap), None) => large = Some(Cow::Borrowed(bitmap)),
            (Slots::Many(bitmap), Some(large)) => *large.to_mut() |= &**bitmap,
        }
    }
    let mut all = large.unwrap_or_default();
    if small.len() > MANY {
        *all.to_mut() |= from_unsorted(&small);
    } else if !small.is_empty() {
        all.to_mut().extend(small);
    }
    all
}

/// For many slots ten times faster than adding one after the other to a bitmap.
fn from_unsorted(slots: &[u32]) -> RoaringBitmap {
    let last = slots.iter().max().map_or(0, |&last| last as usize);
    let mut bits = vec![0u8; last / 8 + 1];
    slots.iter().for_each(|&slot| bits[slot as usize / 8] |= 1 << (slot % 8));
    RoaringBitmap::from_lsb0_bytes(0, &bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fleet is built with devices missing from a filter, because they came in another order than expected.
    #[test]
    fn appended_slots_are_there_in_whatever_order() {
        for start in [0, 3, 9] {
            let mut slots = Slots::default();
            slots.append(10..10 + start);
            slots.append([40, 12, 30, 30, 5].into_iter());
            let all: RoaringBitmap = (10..10 + start).chain([40, 12, 30, 5]).collect();
            assert_eq!(*slots.bitmap(), all);
        }
    }
}
