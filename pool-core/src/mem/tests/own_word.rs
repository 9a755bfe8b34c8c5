use super::*;

#[test]
fn a_word_is_zero_at_first_and_keeps_what_is_stored() {
    let word = OwnWord::new().unwrap();
    assert_eq!(word.load(Relaxed), 0);
    word.store(7, Relaxed);
    assert_eq!(word.load(Relaxed), 7);
}

#[test]
fn a_word_is_wiped_in_children() {
    let word = OwnWord::new().unwrap();
    let addr = PoolAddr::new(u64::try_from(word.as_ptr().addr()).unwrap());
    word.store(1, Relaxed);
    // What the kernel does with such a mapping in a child is the kernel's: that it is one is ours.
    assert!(flags(addr).contains("wf"), "{}", flags(addr));
}
