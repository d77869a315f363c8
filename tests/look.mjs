// Driven by tests/look.py: looks at pages in a real browser, checks them with axe-core, takes
// screenshots. Reads what to do as JSON from stdin, prints one JSON line for each page.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const plan = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(plan.modules + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const DEVICES = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };

const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
});

async function look(name, theme, device) {
  const context = await browser.newContext({
    viewport: DEVICES[device], colorScheme: theme, deviceScaleFactor: device === "phone" ? 2 : 1,
  });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (said) => said.type() === "error" && problems.push(said.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(`${plan.url}/${name}`);
  await page.screenshot({ path: `${plan.folder}/${name}-${device}-${theme}.png`, fullPage: true });
  for (const each of await page.locator("details").all()) await each.evaluate((d) => (d.open = true));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) problems.push(`${wide} pixels too wide`);
  const others = asked.filter((url) => !url.startsWith("data:"));
  if (others.length > 1) problems.push(`asks for ${others.slice(1)}`);
  await page.evaluate(axe);
  const found = await page.evaluate((tags) => axe.run(document, {
    runOnly: { type: "tag", values: tags }, resultTypes: ["violations"],
  }), RULES);
  for (const each of found.violations)
    problems.push(`${each.id}: ${each.help}: ${each.nodes.map((node) => node.html).slice(0, 3)}`);
  await context.close();
  console.log(JSON.stringify({ name, theme, device, passes: found.passes.length, problems }));
}

async function script() {
  // It takes over what is new, keeps what was opened, and says when it cannot.
  const context = await browser.newContext({ timezoneId: "Asia/Kolkata", locale: "en-GB" });
  const page = await context.newPage();
  const problems = [];
  await page.clock.install();
  await page.goto(`${plan.url}/live`);
  const said = () => page.locator("h1").textContent();
  const expect = (good, what) => good || problems.push(what);
  expect((await said()) === "All systems operational", "begins green");
  await page.locator("summary").first().click();
  await Promise.all([page.waitForResponse(/live/), page.clock.fastForward(70_000)]);
  await page.waitForFunction(() => document.querySelector("h1").textContent !== "All systems operational");
  expect((await said()) === "Major outage", "shows what is new");
  expect(await page.locator("details").first().evaluate((d) => d.open), "keeps what was opened");
  expect((await page.title()).startsWith("Major outage"), "takes the title over");
  const moment = page.locator("main time").first();
  expect((await moment.getAttribute("title")).endsWith("UTC"), "keeps UTC at hand");
  expect(/28 Nov 2026, \d\d:\d\d/.test(await moment.textContent()), "tells local time");
  await Promise.all([page.waitForResponse(/live/), page.clock.fastForward(70_000)]);
  await page.waitForFunction(() => !document.getElementById("off").hidden);
  expect(await page.locator("#off").isVisible(), "says that it could not refresh");
  await page.clock.fastForward(100_000);
  await page.waitForFunction(() => document.getElementById("off").hidden === false);
  await context.close();
  const bare = await browser.newContext({ javaScriptEnabled: false });
  const plain = await bare.newPage();
  await plain.goto(`${plan.url}/green`);
  expect(await plain.getByText("All systems operational").first().isVisible(), "works without script");
  await bare.close();
  console.log(JSON.stringify({ name: "script", theme: "-", device: "-", passes: 0, problems }));
}

for (const name of plan.names)
  for (const theme of ["light", "dark"])
    for (const device of Object.keys(DEVICES)) await look(name, theme, device);
if (plan.live) await script();
await browser.close();
