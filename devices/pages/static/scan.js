// Scanning a serial number with the camera, where the browser can read barcodes itself; else one types.

import { html, useEffect, useRef, useState } from "../web/vendor/htm/preact.js";
import { t } from "../web/language.js";

const FORMATS = ["qr_code", "data_matrix", "code_128", "code_39", "ean_13", "itf", "codabar", "code_93"];

export const canScan = () => "BarcodeDetector" in globalThis && Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * The serial number in what a code says. LoRaWAN's label (LW:D0:<JoinEUI>:<DevEUI>:…) holds an EUI; a link holds it in
 * its last part; "SN:…" and "S/N …" are cut.
 */
export function serialIn(text) {
  const code = text.trim();
  const lora = /^LW:D0:[0-9A-F]{16}:([0-9A-F]{16})/i.exec(code);
  if (lora) return lora[1].toUpperCase();
  const named = /(?:^|[;,\s?&])(?:S\/?N|serial(?:_?no)?)\s*[:=]?\s*([\w.-]{3,})/i.exec(code);
  if (named) return named[1];
  if (/^https?:/i.test(code)) return code.split(/[?#]/)[0].replace(/\/+$/, "").split("/").at(-1);
  return code.split(/\s/)[0].slice(0, 100);
}

export function Scanner({ onFound, onClose }) {
  const video = useRef(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let stream = null;
    let timer = null;
    let over = false;
    (async () => {
      try {
        const able = await BarcodeDetector.getSupportedFormats();
        const detector = new BarcodeDetector({ formats: FORMATS.filter((f) => able.includes(f)) });
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        if (over) return stream.getTracks().forEach((track) => track.stop());
        video.current.srcObject = stream;
        await video.current.play();
        timer = setInterval(async () => {
          const [found] = await detector.detect(video.current).catch(() => []);
          if (!found || over) return;
          over = true;
          navigator.vibrate?.(60);
          onFound(serialIn(found.rawValue));
        }, 200);
      } catch {
        setProblem(t("devices.scan.failed"));
      }
      return undefined;
    })();
    return () => {
      over = true;
      clearInterval(timer);
      stream?.getTracks().forEach((track) => track.stop());
    };
  }, []);
  return html`
    <div class="cover scanner" role="dialog" aria-modal="true" aria-label=${t("devices.scan")}>
      <video ref=${video} playsinline muted></video>
      <div class="frame" aria-hidden="true"></div>
      <p class="cover-hint">${problem || t("devices.scan.aim")}</p>
      <div class="cover-do"><button class="big" onClick=${onClose}>${t("devices.scan.type")}</button></div>
    </div>
  `;
}
