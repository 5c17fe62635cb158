# SPDX-License-Identifier: Apache-2.0
"""Plots for reports: plain SVG that any browser shows, without a library."""
import math
from html import escape

COLOURS = ("#b2182b", "#ef8a62", "#7570b3", "#1b7837", "#2166ac", "#666666")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 360, 70, 20, 40, 46


def number(value):
    """As a person writes it: 0.36, 18.9, 1,060."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def text(x, y, what, anchor="middle", size=12, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
            f'font-weight="{weight}">{escape(what)}</text>')


def rule(x1, y1, x2, y2, colour="#ddd"):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def page(title, height, parts):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>', text(WIDTH / 2, 22, title, size=15, weight="bold"),
        *parts, "</svg>", ""])


def decades(least, most):
    """The powers of ten around what is to be shown."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return low, max(high, low + 1)


def log_lines(title, x_name, y_name, series, least=1):
    """`series`: {name: [(x, y)]}. The y axis is logarithmic from `least`; what is below lies on it."""
    points = [p for line in series.values() for p in line]
    x_most = max((x for x, _ in points), default=1) or 1
    low, high = decades(least, max([y for _, y in points] + [least * 10]))

    def at(x, y):
        up = (math.log10(max(y, 10 ** low)) - low) / (high - low)
        return LEFT + x / x_most * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for power in range(low, high + 1):
        x, y = at(0, 10 ** power)
        parts += [rule(x, y, WIDTH - RIGHT, y), text(x - 6, y + 4, f"{10 ** power:,g}", "end")]
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000, 10000) if x_most / s <= 12)
    for x in range(0, int(x_most) + 1, step):
        parts.append(text(at(x, 1)[0], HEIGHT - BOTTOM + 16, str(x)))
    parts += [text(WIDTH / 2, HEIGHT - 8, x_name), text(LEFT, TOP - 6, y_name, "start")]
    for i, (name, line) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*p) for p in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = HEIGHT + 14 + 18 * i
        parts += [f'<rect x="{LEFT}" y="{y - 10}" width="12" height="12" fill="{colour}"/>',
                  text(LEFT + 20, y, name, "start")]
    return page(title, HEIGHT + 14 + 18 * len(series), parts)


def log_bars(title, bars):
    """`bars`: [(name, value, colour's number)], one below the other, their lengths logarithmic."""
    values = [v for _, v, _ in bars if v > 0] or [1]
    low, high = decades(min(values) / 2, max(values))
    left = max(250, 16 + 7 * max((len(name) for name, _, _ in bars), default=0))
    room = WIDTH - left - 90
    parts = []
    for i, (name, value, colour) in enumerate(bars):
        y = TOP + 30 * i
        length = max(1, (math.log10(max(value, 10 ** low)) - low) / (high - low) * room)
        parts += [text(left - 8, y + 15, name, "end"),
                  f'<rect x="{left}" y="{y}" width="{length:.1f}" height="20" '
                  f'fill="{COLOURS[colour % len(COLOURS)]}"/>',
                  text(left + length + 6, y + 15, number(value), "start")]
    return page(title, TOP + 30 * len(bars) + 24,
                [*parts, text(left, TOP + 30 * len(bars) + 12, "logarithmic scale", "start", 11)])
