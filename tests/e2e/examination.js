/* What is wrong with the page, as a list of sentences: landmarks, names, contrast, and width. */
() => {
  const problems = [];
  const count = (selector) => document.querySelectorAll(selector).length;
  const text = (node) => (node.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40);

  if (!document.documentElement.lang) problems.push("no language");
  if (!document.title.trim()) problems.push("no title");
  if (count("main") !== 1) problems.push(`${count("main")} main landmarks`);
  if (count("h1") !== 1) problems.push(`${count("h1")} first headings`);
  if (document.documentElement.scrollWidth > window.innerWidth)
    problems.push(`wider than the window: ${document.documentElement.scrollWidth} px`);

  for (const control of document.querySelectorAll("input:not([type=hidden]):not([hidden]), select, textarea"))
    if (!control.labels.length && !control.getAttribute("aria-label")) problems.push(`no label: ${control.name}`);
  for (const image of document.querySelectorAll("img"))
    if (!image.hasAttribute("alt")) problems.push(`no alternative text: ${image.src}`);
    else if (!image.complete || !image.naturalWidth) problems.push(`not loaded: ${image.src}`);
  for (const target of document.querySelectorAll("a[href], button"))
    if (!text(target) && !target.getAttribute("aria-label")) problems.push(`no name: ${target.outerHTML}`);
  let previous = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const depth = Number(heading.tagName[1]);
    if (depth > previous + 1) problems.push(`heading ${depth} after ${previous}: ${text(heading)}`);
    previous = depth;
  }

  // Contrast of text with what is behind it (WCAG 2.2, 1.4.3), where both are opaque.
  const rgb = (color) => (color.match(/[\d.]+/g) || []).map(Number);
  const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches && getComputedStyle(document.documentElement).colorScheme.includes("dark")
      ? [18, 18, 18] : [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    if (!text(walker.currentNode) || box.width < 2 || box.height < 2 || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [darker, lighter] = [luminance(rgb(style.color)), luminance(behind(element))].sort((a, b) => a - b);
    const ratio = (lighter + 0.05) / (darker + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) problems.push(`contrast ${ratio.toFixed(2)}: ${text(walker.currentNode)}`);
  }
  return problems;
}
