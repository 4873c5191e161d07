// Where the phone is, as well as it knows.

import { changed } from "./server.js";

/** state: "asking", "known", "denied", "insecure" (the browser gives a position over https only) or "none". */
export const here = { state: "asking", position: null, accuracy_m: null };

let watching = null;

export function findMe() {
  if (!isSecureContext) {
    here.state = "insecure";
    return changed();
  }
  if (!navigator.geolocation) {
    here.state = "none";
    return changed();
  }
  if (watching !== null) navigator.geolocation.clearWatch(watching);
  if (!here.position) here.state = "asking";
  watching = navigator.geolocation.watchPosition(
    ({ coords }) => {
      here.state = "known";
      here.position = { latitude: coords.latitude, longitude: coords.longitude };
      here.accuracy_m = coords.accuracy;
      changed();
    },
    (error) => {
      if (here.position) return; // an older position is better than none
      here.state = error.code === 1 ? "denied" : "none";
      changed();
    },
    { enableHighAccuracy: true, maximumAge: 5000, timeout: 20000 },
  );
  changed();
}
