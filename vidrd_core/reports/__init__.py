"""Reports for people: HTML pages, figures, contact sheets, and the seam report of one video."""
