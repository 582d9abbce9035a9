//! Texts that many objects share, each kept once: names of nodes, namespaces and ServiceAccounts, labels.
//!
//! A [`Symbol`] is a number in one table of the process. The table counts the users of each text and forgets a text
//! with its last, so that pods with labels of their own leave nothing behind.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

/// A text of the table; equal texts are equal symbols.
#[derive(PartialEq, Eq, Hash)]
pub struct Symbol(NonZeroU32);

impl Symbol {
    /// The symbol of a text.
    pub fn new(text: &str) -> Self {
        Self(table().take(text))
    }

    /// Shows the text; `look` must use no symbol itself, for the table is locked meanwhile.
    pub fn with<R>(&self, look: impl FnOnce(&str) -> R) -> R {
        look(&table().text(self.0).text)
    }
}

impl Clone for Symbol {
    fn clone(&self) -> Self {
        table().text(self.0).users += 1;
        Self(self.0)
    }
}

impl Drop for Symbol {
    fn drop(&mut self) {
        table().release(self.0);
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.with(str::to_owned);
        f.write_str(&text)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.with(str::to_owned);
        write!(f, "{text:?}")
    }
}

/// Nothing in it can be left half done by a panic.
fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Table {
    texts: Vec<Text>,
    /// Places of forgotten texts.
    free: Vec<NonZeroU32>,
    by_text: HashTable<NonZeroU32>,
    hasher: RandomState,
}

struct Text {
    text: Box<str>,
    users: u32,
}

impl Table {
    fn take(&mut self, text: &str) -> NonZeroU32 {
        let Self {
            texts,
            free,
            by_text,
            hasher,
        } = self;
        let hash_of = |known: &NonZeroU32| hasher.hash_one(&*texts[place(*known)].text);
        let same = |known: &NonZeroU32| *texts[place(*known)].text == *text;
        match by_text.entry(hasher.hash_one(text), same, hash_of) {
            Entry::Occupied(known) => {
                let symbol = *known.get();
                texts[place(symbol)].users += 1;
                symbol
            }
            Entry::Vacant(vacant) => {
                let symbol = free.pop().unwrap_or_else(|| {
                    let next = u32::try_from(texts.len() + 1).ok().and_then(NonZeroU32::new);
                    next.expect("memory ends before numbers do")
                });
                vacant.insert(symbol);
                let text = Text {
                    text: text.into(),
                    users: 1,
                };
                match texts.get_mut(place(symbol)) {
                    Some(forgotten) => *forgotten = text,
                    None => {
                        // By an eighth: room for as many again would cost more than most texts.
                        if texts.len() == texts.capacity() {
                            texts.reserve_exact(texts.len() / 8 + 64);
                        }
                        texts.push(text);
                    }
                }
                symbol
            }
        }
    }

    fn text(&mut self, symbol: NonZeroU32) -> &mut Text {
        &mut self.texts[place(symbol)]
    }

    fn release(&mut self, symbol: NonZeroU32) {
        let text = &mut self.texts[place(symbol)];
        text.users -= 1;
        if text.users > 0 {
            return;
        }
        let forgotten = std::mem::take(&mut text.text);
        let hash = self.hasher.hash_one(&*forgotten);
        if let Ok(known) = self.by_text.find_entry(hash, |known| *known == symbol) {
            known.remove();
        }
        self.free.push(symbol);
    }
}

/// Numbers begin at 1.
fn place(symbol: NonZeroU32) -> usize {
    symbol.get() as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known(text: &str) -> bool {
        let table = table();
        let hash = table.hasher.hash_one(text);
        let same = |known: &NonZeroU32| *table.texts[place(*known)].text == *text;
        table.by_text.find(hash, same).is_some()
    }

    #[test]
    fn equal_texts_are_one_symbol_and_a_text_goes_with_its_last_user() {
        let one = Symbol::new("only-in-this-test");
        let other = Symbol::new("only-in-this-test");
        assert_eq!(one, other);
        assert_ne!(one, Symbol::new("only-in-this-test-too"));
        assert!(!is_known("only-in-this-test-too"));
        let third = other.clone();
        drop((one, other));
        assert_eq!(third.to_string(), "only-in-this-test");
        drop(third);
        assert!(!is_known("only-in-this-test"));
    }
}
