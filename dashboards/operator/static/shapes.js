// Shapes: severity and domain have each their own, so that nothing hangs on colour alone.

import { html } from "../web/vendor/htm/preact.js";

/** Outlines within a square of side 2 around 0: severity 1 triangle, 2 diamond, 3 octagon. */
export const SEVERITY_PATH = {
  1: "M0 -0.98 L1 0.8 L-1 0.8 Z",
  2: "M0 -1 L1 0 L0 1 L-1 0 Z",
  3: "M-0.4 -0.95 L0.4 -0.95 L0.95 -0.4 L0.95 0.4 L0.4 0.95 L-0.4 0.95 L-0.95 0.4 L-0.95 -0.4 Z",
};

/** Flood a drop, traffic a bar-like square, street a circle, device a small ring. */
export const DOMAIN_PATH = {
  flood: "M0 -1 C0.3 -0.45 0.8 0 0.8 0.4 A0.8 0.65 0 0 1 -0.8 0.4 C-0.8 0 -0.3 -0.45 0 -1 Z",
  traffic: "M-0.78 -0.78 H0.78 V0.78 H-0.78 Z",
  street: "M0 -0.85 A0.85 0.85 0 1 1 -0.001 -0.85 Z",
  device: "M0 -0.5 A0.5 0.5 0 1 1 -0.001 -0.5 Z",
};

export const NAMES = { 1: "waspada", 2: "siaga", 3: "awas" };

export const SeverityIcon = ({ severity, size = 18 }) => html`
  <svg class=${`icon ${NAMES[severity] ?? ""}`} width=${size} height=${size} viewBox="-1.15 -1.15 2.3 2.3" aria-hidden="true">
    <path d=${SEVERITY_PATH[severity]} />
  </svg>
`;

export const SilenceIcon = ({ size = 18 }) => html`
  <svg class="icon silence" width=${size} height=${size} viewBox="-1.15 -1.15 2.3 2.3" aria-hidden="true">
    <circle r="0.8" stroke-dasharray="0.5 0.34" /><path d="M-0.95 0.95 L0.95 -0.95" />
  </svg>
`;

export const DomainIcon = ({ domain, size = 14 }) => html`
  <svg class="icon domain" width=${size} height=${size} viewBox="-1.1 -1.1 2.2 2.2" aria-hidden="true">
    <path d=${DOMAIN_PATH[domain]} />
  </svg>
`;
