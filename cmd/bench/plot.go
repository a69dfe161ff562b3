package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// panel is one plot of several lines over the same kind of x.
type panel struct {
	title, unit string
	series      []series
}

type series struct {
	name string
	x, y []float64
}

// The look: a reader's dark mode turns the ink, not the lines' meaning, which
// their marks carry too.
const plotStyle = `<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 13px; }
.grid { stroke: #d1d9e0; stroke-width: 1; }
.axis { stroke: #59636e; stroke-width: 1; }
.line { fill: none; stroke-width: 2; }
.s0 { stroke: #0969da; } .s1 { stroke: #bc4c00; } .s2 { stroke: #1a7f37; }
.m0 { fill: #0969da; } .m1 { fill: #bc4c00; } .m2 { fill: #1a7f37; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .grid { stroke: #30363d; } .axis { stroke: #9198a1; }
  .s0 { stroke: #58a6ff; } .s1 { stroke: #f0883e; } .s2 { stroke: #3fb950; }
  .m0 { fill: #58a6ff; } .m1 { fill: #f0883e; } .m2 { fill: #3fb950; }
}
</style>`

const (
	panelWidth, panelHeight = 380.0, 320.0
	left, right             = 52.0, 18.0
	top, bottom             = 40.0, 76.0
)

// draw makes an SVG of panels side by side, with one legend below.
func draw(title, xLabel string, panels ...panel) []byte {
	var w strings.Builder
	width := panelWidth * float64(len(panels))
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s">`+"\n",
		width, panelHeight, width, panelHeight, html.EscapeString(title))
	fmt.Fprintf(&w, "<title>%s</title>\n%s\n", html.EscapeString(title), plotStyle)
	for i, p := range panels {
		fmt.Fprintf(&w, `<g transform="translate(%.0f 0)">`+"\n", panelWidth*float64(i))
		p.draw(&w, xLabel)
		w.WriteString("</g>\n")
	}
	x := left
	for i, s := range panels[0].series {
		y := panelHeight - 14
		fmt.Fprintf(&w, `<line class="line s%d" x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f"/>`+"\n", i, x, y-4, x+26, y-4)
		w.WriteString(mark(i, x+13, y-4))
		fmt.Fprintf(&w, `<text x="%.0f" y="%.0f">%s</text>`+"\n", x+34, y, html.EscapeString(s.name))
		x += 60 + 7*float64(len(s.name))
	}
	w.WriteString("</svg>\n")
	return []byte(w.String())
}

func (p panel) draw(w *strings.Builder, xLabel string) {
	var maxX, maxY float64
	for _, s := range p.series {
		for i := range s.x {
			maxX, maxY = max(maxX, s.x[i]), max(maxY, s.y[i])
		}
	}
	stepX, stepY := step(maxX), step(maxY)
	endX, endY := stepX*math.Ceil(maxX/stepX), stepY*math.Ceil(maxY/stepY)
	x := func(v float64) float64 { return left + v/endX*(panelWidth-left-right) }
	y := func(v float64) float64 { return panelHeight - bottom - v/endY*(panelHeight-top-bottom) }
	fmt.Fprintf(w, `<text class="title" x="%.0f" y="22">%s, %s</text>`+"\n", left, html.EscapeString(p.title), html.EscapeString(p.unit))
	for v := 0.0; v <= endY+stepY/2; v += stepY {
		fmt.Fprintf(w, `<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/><text x="%.1f" y="%.1f" text-anchor="end">%g</text>`+"\n",
			x(0), y(v), x(endX), y(v), left-6, y(v)+4, round(v))
	}
	for v := 0.0; v <= endX+stepX/2; v += stepX {
		fmt.Fprintf(w, `<line class="axis" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/><text x="%.1f" y="%.1f" text-anchor="middle">%g</text>`+"\n",
			x(v), y(0), x(v), y(0)+5, x(v), y(0)+19, round(v))
	}
	fmt.Fprintf(w, `<line class="axis" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/><line class="axis" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n",
		x(0), y(0), x(endX), y(0), x(0), y(0), x(0), y(endY))
	fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", (x(0)+x(endX))/2, y(0)+36, html.EscapeString(xLabel))
	for i, s := range p.series {
		var points []string
		for k := range s.x {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(s.x[k]), y(s.y[k])))
		}
		fmt.Fprintf(w, `<polyline class="line s%d" points="%s"/>`+"\n", i, strings.Join(points, " "))
		for k := range s.x {
			w.WriteString(mark(i, x(s.x[k]), y(s.y[k])))
		}
	}
}

// mark tells lines apart without their colour.
func mark(i int, x, y float64) string {
	switch i % 3 {
	case 0:
		return fmt.Sprintf(`<circle class="m%d" cx="%.1f" cy="%.1f" r="4"/>`+"\n", i, x, y)
	case 1:
		return fmt.Sprintf(`<rect class="m%d" x="%.1f" y="%.1f" width="8" height="8"/>`+"\n", i, x-4, y-4)
	}
	return fmt.Sprintf(`<path class="m%d" d="M%.1f %.1fl5 9h-10z"/>`+"\n", i, x, y-5)
}

// step is a round number that cuts an axis up to most into four to ten parts.
func step(most float64) float64 {
	if most <= 0 {
		return 1
	}
	s := math.Pow(10, math.Floor(math.Log10(most)))
	for _, part := range []float64{1, 0.5, 0.25, 0.2, 0.1} {
		if most/(s*part) >= 4 {
			return s * part
		}
	}
	return s * 0.1
}

func round(v float64) float64 { return math.Round(v*1000) / 1000 }
