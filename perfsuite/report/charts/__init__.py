"""Charts as inline SVG: plain functions of numbers. Colours and fonts are the page's (templates/report.css)."""
