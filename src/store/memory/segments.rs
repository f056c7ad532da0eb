//! A list that grows without moving its items, so that the time of an append is bounded.

/// The number of items of a segment.
const SEGMENT: usize = 1024;

/// A growing list in segments of 1,024 items, addressed by 32-bit numbers.
#[derive(Debug)]
pub(super) struct Segments<T> {
    segments: Vec<Vec<T>>,
}

impl<T> Default for Segments<T> {
    fn default() -> Self {
        Self { segments: Vec::new() }
    }
}

impl<T> Segments<T> {
    pub(super) fn len(&self) -> usize {
        let full = self.segments.len().saturating_sub(1) * SEGMENT;
        full + self.segments.last().map_or(0, Vec::len)
    }

    pub(super) fn push(&mut self, item: T) {
        match self.segments.last_mut() {
            Some(last) if last.len() < SEGMENT => last.push(item),
            _ => {
                // The first segment grows with its items, for small stores; the others are allocated whole.
                let mut segment = Vec::with_capacity(if self.segments.is_empty() { 4 } else { SEGMENT });
                segment.push(item);
                self.segments.push(segment);
            }
        }
    }

    /// The item with that number, if there is one.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.segments.get(number as usize / SEGMENT)?.get(number as usize % SEGMENT)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let last = self.segments.last_mut()?;
        let item = last.pop();
        if last.is_empty() {
            self.segments.pop();
        }
        item
    }

    /// The items from number `start` on, with their numbers.
    pub(super) fn iter_from(&self, start: u32) -> impl Iterator<Item = (u32, &T)> {
        let at = start as usize;
        let first = self.segments.get(at / SEGMENT..).unwrap_or_default();
        (start..).zip(first.iter().flatten().skip(at % SEGMENT))
    }
}

impl<T> std::ops::Index<u32> for Segments<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.segments[number as usize / SEGMENT][number as usize % SEGMENT]
    }
}

impl<T> std::ops::IndexMut<u32> for Segments<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.segments[number as usize / SEGMENT][number as usize % SEGMENT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_numbers_across_segments() {
        let mut list = Segments::default();
        assert_eq!(list.len(), 0);
        for number in 0..3 * SEGMENT as u32 + 5 {
            list.push(number);
            assert_eq!(list.len(), number as usize + 1);
        }
        list[1024] += 1;
        assert_eq!((list[1023], list[1024], list[2048]), (1023, 1025, 2048));
        assert_eq!((list.get(1023), list.get(3 * SEGMENT as u32 + 5)), (Some(&1023), None));
        let tail: Vec<_> = list.iter_from(3 * SEGMENT as u32 + 2).map(|(number, &item)| (number, item)).collect();
        assert_eq!(tail, [(3074, 3074), (3075, 3075), (3076, 3076)]);
        assert_eq!(list.iter_from(list.len() as u32).count(), 0);
        for number in (1025..3 * SEGMENT as u32 + 5).rev() {
            assert_eq!(list.pop(), Some(number));
            assert_eq!(list.len(), number as usize);
        }
        assert_eq!((list.pop(), list.pop(), list.pop(), list.len()), (Some(1025), Some(1023), Some(1022), 1022));
        list.push(7);
        assert_eq!((list[1022], list.len()), (7, 1023));
    }
}
