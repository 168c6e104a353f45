"""The style sheet of reports: one column, system fonts, light and dark, and a print version."""

STYLE = """
:root { --ink: #1b1f24; --soft: #59636e; --line: #d7dde3; --page: #ffffff; --box: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #9aa5b1; --line: #343c45; --page: #14181c; --box: #1d2329; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
main.broad { max-width: 84rem; }
h1 { font-size: 1.7rem; margin: 0 0 .4rem; }
h1 small { font-size: .9rem; font-weight: normal; color: var(--soft); font-family: ui-monospace, monospace; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
.facts, .legend { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; padding: 0; margin: 0 0 1rem;
  color: var(--soft); }
.card { background: var(--box); border-left: 3px solid #3b7dd8; padding: .7rem 1rem; border-radius: 4px; }
.card p { margin: .1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 50%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.2rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
.row-best td { font-weight: 600; } .row-baseline td { color: var(--soft); } .row-failed td { color: #c2543d; }
.note { color: var(--soft); font-size: .9rem; margin: .3rem 0; } .save { color: var(--soft); font-size: .9rem; }
td:last-child, th:last-child { padding-right: 0; }
.bars { margin: .6rem 0; }
.row { display: flex; align-items: center; margin: .3rem 0; }
.row span { width: 4.2rem; color: var(--soft); }
.bar { flex: 1; height: 1.3rem; display: flex; background: var(--box); border-radius: 3px; overflow: hidden; }
.bar i { display: block; height: 100%; }
.legend b { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; border-radius: 2px; }
.pixels { background: #8a94a0; }
.part0 { background: #3b7dd8; } .part1 { background: #e0a030; } .part2 { background: #3f9d63; }
.part3 { background: #c2543d; } .part4 { background: #8a63c9; } .part5 { background: #2aa7b8; }
.part6 { background: #d46aa8; }
.broad td:not(.number) { min-width: 5rem; } .broad td:first-child { min-width: 9rem; }
.broad th, .broad td { padding-right: 1rem; }
svg { max-width: 100%; height: auto; }
figure { margin: 0; } img { max-width: 100%; background: #ffffff; border-radius: 4px; }
figcaption { color: var(--soft); font-size: .9rem; }
pre { background: var(--box); padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; font-size: .85rem; }
summary { cursor: pointer; color: var(--soft); margin: .4rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --page: #fff; --box: #f4f4f4; }
  body { font-size: 11px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  section { break-inside: avoid-page; } pre { white-space: pre-wrap; }
}
"""
