//! All that a client sends on one connection: the cut changes nothing, and whatever is accepted has one meaning.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn_fuzz::Input;
use rgunicorn_fuzz::replay::replay;

fuzz_target!(|input: &[u8]| {
    let input = Input::read(input);
    let [whole, two, single] = input.cuts();
    let account = replay(whole, &input.limits);
    assert_eq!(replay(two, &input.limits), account, "in two pieces");
    assert_eq!(replay(single, &input.limits), account, "byte by byte");
    account.check(&input.limits);
});
