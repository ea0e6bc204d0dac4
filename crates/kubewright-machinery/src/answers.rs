//! What others answered, remembered for a while: a bounded map whose entries expire.
//!
//! Pure: the time comes in with every call.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

/// Answers by question. Never holds more than its capacity.
#[derive(Debug)]
pub struct Answers<K, V> {
    kept: HashMap<K, (Timestamp, V)>,
    capacity: usize,
}

impl<K: Eq + Hash, V: Clone> Answers<K, V> {
    /// Room for so many answers.
    pub fn new(capacity: usize) -> Self {
        Self { kept: HashMap::new(), capacity }
    }

    /// The answer to a question, if one is known that has not expired.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, question: &Q, now: Timestamp) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.kept.get(question).filter(|(until, _)| now < *until).map(|(_, answer)| answer.clone())
    }

    /// Remembers an answer for so long; not at all for no time.
    pub fn keep(&mut self, question: K, answer: V, now: Timestamp, time: SignedDuration) {
        let Ok(until) = now.checked_add(time) else { return };
        if until <= now || self.capacity == 0 {
            return;
        }
        if self.kept.len() >= self.capacity {
            self.kept.retain(|_, (until, _)| now < *until);
        }
        if self.kept.len() >= self.capacity {
            self.kept.clear();
        }
        self.kept.insert(question, (until, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn an_answer_holds_until_its_time_is_over() {
        let mut answers = Answers::new(2);
        answers.keep("a", 1, at(0), SignedDuration::from_secs(10));
        assert_eq!(answers.get("a", at(9)), Some(1));
        assert_eq!(answers.get("a", at(10)), None);
        answers.keep("b", 1, at(0), SignedDuration::ZERO);
        assert_eq!(answers.get("b", at(0)), None);
    }

    #[test]
    fn there_are_never_more_than_fit() {
        let mut answers = Answers::new(2);
        for (n, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            answers.keep(name, n, at(0), SignedDuration::from_secs(10));
            assert!(answers.kept.len() <= 2);
            assert_eq!(answers.get(name, at(1)), Some(n));
        }
    }
}
