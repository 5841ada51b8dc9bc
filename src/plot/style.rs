//! Colours of pictures, in light and in dark.

/// Style sheet of all pictures: variables `--bg` (paper), `--fg` (words), `--muted`, `--grid` and the
/// colours `--c0` to `--c7`, and the classes that use them.
pub const STYLE: &str = "\
:root{--bg:#fff;--fg:#1c2128;--muted:#59636e;--grid:#dfe4ea;--panel:#f6f8fa;\
--c0:#0072b2;--c1:#d55e00;--c2:#00875f;--c3:#b05a8f;--c4:#c98900;--c5:#3a9bdc;--c6:#1c2128;--c7:#8a7f00}\
@media(prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e3e8ee;--muted:#9aa5b1;--grid:#333b45;\
--panel:#1d232a;--c0:#4da6e8;--c1:#ff8a3d;--c2:#2fc79b;--c3:#e59cc8;--c4:#ffbf47;--c5:#9bd4ff;\
--c6:#ffffff;--c7:#d8cc3c}}\
.chart svg{display:block;width:100%;height:auto;font:12.5px system-ui,Helvetica,Arial,sans-serif}\
@media(max-width:520px){.chart svg{font-size:15px}}\
.chart svg text{fill:var(--muted)}.chart .grid{stroke:var(--grid)}.chart .frame{stroke:var(--muted)}\
.chart .l{fill:none;stroke-width:1.6;stroke-linejoin:round}.chart .b{stroke:none;opacity:.18}\
.chart .ref{stroke:var(--muted);stroke-dasharray:2 3}\
.c0{stroke:var(--c0);fill:var(--c0)}.c1{stroke:var(--c1);fill:var(--c1)}\
.c2{stroke:var(--c2);fill:var(--c2)}.c3{stroke:var(--c3);fill:var(--c3)}\
.c4{stroke:var(--c4);fill:var(--c4)}.c5{stroke:var(--c5);fill:var(--c5)}\
.c6{stroke:var(--c6);fill:var(--c6)}.c7{stroke:var(--c7);fill:var(--c7)}\
.d1{stroke-dasharray:7 3}.d2{stroke-dasharray:2 2.5}.d3{stroke-dasharray:8 3 2 3}";
