// node drive_page.mjs URL BROWSER SOUND...: open the page in a headless browser, choose each sound and print what the page shows as JSON.
import { createRequire } from "node:module";
import process from "node:process";

const { default: puppeteer } = await import(createRequire(`${process.cwd()}/`).resolve("puppeteer-core"));
const [url, executablePath, ...sounds] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, headless: "shell", args: ["--no-sandbox"] });
const page = await browser.newPage();
const foreign = [];
page.on("request", (request) => { if (!request.url().startsWith(url)) foreign.push(request.url()); });
const status = () => page.$eval("#status", (element) => element.textContent);
const until = (pattern) => page.waitForFunction((text) => RegExp(text).test(document.getElementById("status").textContent), {}, pattern);
page.setDefaultTimeout(120000);
await page.goto(url);
await until("^Ready|^This does not work");
const shown = { ready: await status(), foreign, sounds: [] };
for (const sound of sounds) {
  await page.evaluate(() => { document.getElementById("status").textContent = ""; });
  await (await page.$("#file")).uploadFile(sound);
  await until("^Embedded|^This does not work");
  const neighbours = await page.$$eval("#neighbours li", (items) => items.map((item) => item.textContent));
  shown.sounds.push({ status: await status(), neighbours, embedding: await page.evaluate(() => globalThis.lastEmbedding) });
}
console.log(JSON.stringify(shown));
await browser.close();
