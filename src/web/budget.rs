//! Limits the bytes of request bodies in memory, together and for each principal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Unavailable;

/// How many bytes may be held.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Together.
    pub total: usize,
    /// For one principal.
    pub principal: usize,
    /// For one principal while its signature is not verified yet, which needs the whole body.
    pub unverified: usize,
    /// For all unverified ones together.
    pub all_unverified: usize,
}

/// The owner of held bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The principal whose access key a request names; its signature is not verified yet.
    Unverified(Box<str>),
    /// The principal that has sent the request.
    Principal(Box<str>),
}

impl Owner {
    fn is_unverified(&self) -> bool {
        matches!(self, Self::Unverified(_))
    }
}

/// All bytes that are held. Only owners that hold some are in the map, so that it stays small.
#[derive(Debug)]
pub struct ByteBudget {
    limits: Limits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    unverified: usize,
    by_owner: HashMap<Owner, usize>,
}

impl Held {
    fn add(&mut self, limits: Limits, owner: &Owner, bytes: usize) -> Result<(), Unavailable> {
        let own = self.by_owner.get(owner).copied().unwrap_or(0) + bytes;
        let unverified = if owner.is_unverified() { self.unverified + bytes } else { self.unverified };
        let own_limit = if owner.is_unverified() { limits.unverified } else { limits.principal };
        if own > own_limit || unverified > limits.all_unverified || self.total + bytes > limits.total {
            return Err(Unavailable::ReportsHeld);
        }
        match self.by_owner.get_mut(owner) {
            Some(held) => *held = own,
            None => drop(self.by_owner.insert(owner.clone(), own)),
        }
        self.unverified = unverified;
        self.total += bytes;
        Ok(())
    }

    fn remove(&mut self, owner: &Owner, bytes: usize) {
        if let Some(held) = self.by_owner.get_mut(owner) {
            *held -= bytes;
            if *held == 0 {
                self.by_owner.remove(owner);
            }
        }
        if owner.is_unverified() {
            self.unverified -= bytes;
        }
        self.total -= bytes;
    }
}

impl ByteBudget {
    /// A budget with no bytes held.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, held: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Only sums are changed under this lock, and that cannot panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of one body, released when this is dropped.
#[derive(Debug)]
pub struct HeldBytes {
    budget: Arc<ByteBudget>,
    owner: Owner,
    bytes: usize,
}

impl HeldBytes {
    /// No bytes yet, of a request whose sender is unknown.
    pub fn new(budget: &Arc<ByteBudget>) -> Self {
        Self::of(budget, Owner::Unverified("".into()))
    }

    /// No bytes yet, of that owner.
    pub fn of(budget: &Arc<ByteBudget>, owner: Owner) -> Self {
        Self { budget: budget.clone(), owner, bytes: 0 }
    }

    /// No bytes yet, of the same owner.
    pub fn empty_for_same_owner(&self) -> Self {
        Self::of(&self.budget, self.owner.clone())
    }

    /// Holds that many more bytes, unless that exceeds a limit.
    ///
    /// # Errors
    ///
    /// If that exceeds a limit.
    pub fn add(&mut self, bytes: usize) -> Result<(), Unavailable> {
        if bytes > 0 {
            self.budget.lock().add(self.budget.limits, &self.owner, bytes)?;
            self.bytes += bytes;
        }
        Ok(())
    }

    /// Moves the bytes to another owner. If they exceed a limit of that owner, they are released.
    ///
    /// # Errors
    ///
    /// If that exceeds a limit.
    pub fn set_owner(&mut self, owner: Owner) -> Result<(), Unavailable> {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            let mut held = self.budget.lock();
            held.remove(&self.owner, bytes);
            held.add(self.budget.limits, &owner, bytes)?;
        }
        self.owner = owner;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.lock().remove(&self.owner, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { total: 100, principal: 50, unverified: 25, all_unverified: 40 };
    const REFUSED: Result<(), Unavailable> = Err(Unavailable::ReportsHeld);

    fn of(budget: &Arc<ByteBudget>, owner: Owner) -> HeldBytes {
        let mut held = HeldBytes::new(budget);
        held.set_owner(owner).unwrap();
        held
    }

    fn is_unused(budget: &ByteBudget) -> bool {
        let held = budget.lock();
        held.total == 0 && held.unverified == 0 && held.by_owner.is_empty()
    }

    fn principal(name: &str) -> Owner {
        Owner::Principal(name.into())
    }

    fn unverified(name: &str) -> Owner {
        Owner::Unverified(name.into())
    }

    #[test]
    fn a_principal_has_at_most_half_of_the_budget() {
        let budget = ByteBudget::new(LIMITS);
        let (mut a, mut same) = (of(&budget, principal("a")), of(&budget, principal("a")));
        assert_eq!((a.add(30), same.add(20), same.add(1)), (Ok(()), Ok(()), REFUSED));
        let (mut b, mut c) = (of(&budget, principal("b")), of(&budget, principal("c")));
        assert_eq!((b.add(49), c.add(2), c.add(1), b.add(1)), (Ok(()), REFUSED, Ok(()), REFUSED));
        drop(a);
        assert_eq!((same.add(30), b.add(1)), (Ok(()), REFUSED));
        drop(c);
        assert_eq!((b.add(1), b.add(1)), (Ok(()), REFUSED));
        drop((same, b));
        assert!(is_unused(&budget));
    }

    #[test]
    fn unverified_bytes_do_not_count_for_the_principal() {
        let budget = ByteBudget::new(LIMITS);
        let (mut one, mut other) = (of(&budget, unverified("a")), of(&budget, unverified("b")));
        assert_eq!((one.add(26), one.add(25), other.add(16), other.add(15)), (REFUSED, Ok(()), REFUSED, Ok(())));
        assert_eq!(HeldBytes::new(&budget).add(1), REFUSED);
        let mut own = of(&budget, principal("a"));
        assert_eq!(own.add(50), Ok(()));
        // Verified now, they count for the principal, whose limit they exceed.
        assert_eq!(one.set_owner(principal("a")), REFUSED);
        assert_eq!(other.set_owner(principal("b")), Ok(()));
        assert_eq!(budget.lock().unverified, 0);
        assert_eq!(budget.lock().total, 65);
        drop((one, other, own));
        assert!(is_unused(&budget));
    }
}
