import { api, need, onEnded, refresh, setToken, type Schemas } from "./api";

export type Me = Schemas["Me"];
export type Permission = Me["permissions"][number];

/** Who is signed in. */
class Session {
  me = $state<Me>();
  /** Nothing is known yet. */
  starting = $state(true);
  setupRequired = $state(false);
  unreachable = $state(false);

  may = (permission: Permission) => this.me?.permissions.includes(permission) ?? false;

  start = async () => {
    this.starting = true;
    this.unreachable = false;
    try {
      this.setupRequired = (await need(api.GET("/api/v1/setup"))).required;
      if (!this.setupRequired && hadSession() && (await refresh())) await this.load();
    } catch {
      this.unreachable = true;
    }
    this.starting = false;
  };

  signedIn = async (token: string) => {
    setToken(token);
    remember(true);
    await this.load();
  };

  load = async () => {
    this.me = await need(api.GET("/api/v1/auth/me"));
  };

  forget = () => {
    setToken(undefined);
    remember(false);
    this.me = undefined;
  };

  signOut = async () => {
    await api.POST("/api/v1/auth/logout").catch(() => undefined);
    this.forget();
  };
}

/** Only whether there may be a session, so that a first visit asks for none. */
const MARK = "zero.session";
const hadSession = () => localStorage.getItem(MARK) !== null;
const remember = (is: boolean) => (is ? localStorage.setItem(MARK, "1") : localStorage.removeItem(MARK));

export const session = new Session();
onEnded(session.forget);
