"""Style, script and frame of the report's page."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width, initial-scale=1">
<link rel=icon href="data:,"><title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1>{body}</main><script>{script}</script></body></html>
"""

STYLE = """
:root{color-scheme:light dark;--page:#fafaf8;--card:#fff;--edge:#e6e6e0;--ink:#222;--soft:#5c5c5c}
@media(prefers-color-scheme:dark){:root{--page:#151515;--card:#1e1e1d;--edge:#3a3a37;--ink:#e8e8e4;--soft:#aaaaa4}}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:52rem;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;overflow-wrap:anywhere} h2{font-size:1.15rem;margin:0 0 .3rem}
section{background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:1rem;margin:1rem 0}
section>p{margin:.2rem 0 .8rem;color:var(--soft)} .opening>p.result{font-size:1.15rem;color:var(--ink);overflow-wrap:anywhere}
code{font-size:.8rem;overflow-wrap:anywhere} svg text{fill:currentColor}
figure{margin:0} figcaption{color:var(--soft);font-size:.85rem} svg{max-width:100%;height:auto} .scroll svg{max-width:none}
.scroll{overflow-x:auto} table{border-collapse:collapse;font-size:.9rem}
td,th{padding:.3rem .7rem;border-bottom:1px solid var(--edge);text-align:right}
td{white-space:nowrap} th:first-child{text-align:left;font-weight:500;min-width:8rem;overflow-wrap:anywhere} small{color:var(--soft)}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr));gap:.6rem} .panels svg{width:100%}
@media(max-width:40rem){main{padding:.4rem} section{padding:.7rem} td,th{padding:.3rem .35rem}}
.map{width:100%;background:var(--page)} .sound{cursor:pointer;stroke:var(--card)} .sound.playing{stroke:var(--ink);stroke-width:2}
.key span{display:inline-block;margin-right:.8rem;font-size:.8rem}
.key i{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.3em}
"""

SCRIPT = """
const map = document.querySelector('.map'), heard = document.querySelector('#heard');
const marks = [...document.querySelectorAll('.sound')].sort((one, other) => one.cx.baseVal.value - other.cx.baseVal.value);
const reach = 24;  // pixels, for a finger
let player = null, at = -1;
function play(number) {
  if (player) player.pause();
  if (at >= 0) marks[at].classList.remove('playing');
  const mark = marks[at = number];
  player = new Audio(mark.dataset.sound);
  mark.classList.add('playing');
  heard.textContent = mark.querySelector('title').textContent;
  player.addEventListener('ended', () => mark.classList.remove('playing'));
  player.play().catch(() => {});  // stopped by the next one before it began
}
map?.addEventListener('click', event => {
  const distances = marks.map(mark => {
    const box = mark.getBoundingClientRect();
    return Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
  });
  const least = Math.min(...distances);
  if (least <= reach) play(distances.indexOf(least));
});
map?.addEventListener('keydown', event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!step) return;
  event.preventDefault();
  play(at < 0 ? 0 : (at + step + marks.length) % marks.length);
});
"""
