//! Embedding rows, and their gradients: a table as large as the rows, and a token of two the same.

use neuroshard::ops::embedding::*;
use neuroshard::tensor::View;

use crate::*;

const COLUMNS: usize = 768;

/// In no order, some of them often, as text has it.
fn tokens(n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i + 13 * i) * 7919 % n) as u32).collect()
}

pub fn cases(size: Size) -> Vec<Case> {
    let (n, c) = (size.rows(COLUMNS, 2), COLUMNS);
    let mut distinct = tokens(n);
    distinct.sort_unstable();
    distinct.dedup();
    let row = c * size_of::<f32>();
    let forward_case = move || -> Body {
        let (mut out, table, tokens) = (painted(&[n, c]), painted(&[n, c]), tokens(n));
        Box::new(move |cpu| {
            let (out, table) = (out.view_mut(), table.view());
            forward(cpu, Forward { out, tokens: View::of(&tokens, &[n]), table }).unwrap();
        })
    };
    let backward_case = move || -> Body {
        let (mut dtable, dout, tokens) = (painted(&[n, c]), painted(&[n, c]), tokens(n));
        Box::new(move |cpu| {
            let (dtable, dout) = (dtable.view_mut(), dout.view());
            backward(cpu, Backward { dtable, tokens: View::of(&tokens, &[n]), dout }).unwrap();
        })
    };
    let case = |pass: &str, bytes, prepare: Box<dyn Fn() -> Body>| {
        let name = format!("{pass}/f32/{n}x{c}");
        Case { op: "embedding", name, work: Work::Bytes(bytes), prepare }
    };
    // A row of the table moves once, however many tokens name it.
    vec![
        case("forward", (distinct.len() + n) * row, Box::new(forward_case)),
        case("backward", (2 * distinct.len() + n) * row, Box::new(backward_case)),
    ]
}
