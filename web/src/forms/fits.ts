/** Whether a connector of the type serves a step that takes the kind. */
const serves = (type: string, kind: string) =>
  type === kind || type.startsWith(`${kind}-`) || (kind === 'http' && type.startsWith('oauth2-'))
export const servesOneOf = (type: string, kinds: string[]) => kinds.some((kind) => serves(type, kind))
