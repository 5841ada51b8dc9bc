//! BLAKE3 subtrees: reads only.

use neuroshard::ops::digest::*;

use crate::*;

pub fn cases(size: Size) -> Vec<Case> {
    let subtrees = size.rows(256, 1);
    let prepare = move || -> Body {
        let x = painted(&[subtrees * SUBTREE_BYTES / 4]);
        let (mut values, key) = (vec![[0; 32]; subtrees], [7; 32]);
        Box::new(move |cpu| {
            let args = Subtrees { values: &mut values, inp: x.view(), key: &key, offset: 0 };
            neuroshard::ops::digest::subtrees(cpu, args).unwrap();
        })
    };
    let name = format!("subtrees/f32/{subtrees}");
    let work = Work::Bytes(subtrees * SUBTREE_BYTES);
    vec![Case { op: "digest", name, work, prepare: Box::new(prepare) }]
}
