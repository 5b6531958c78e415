/** What is going to be shown, in grey, until it has come: of the same size, so that nothing moves then. */
import { words } from '../words'

/** `tall`: pieces of a page of details instead of the rows of a list. */
export const Bones = ({ many = 8, tall = false }: { many?: number; tall?: boolean }) => (
  <div className={tall ? 'bones tall' : 'bones'} role="status">
    <span>{words.state.loading}</span>
    {Array.from({ length: many }, (_, at) => (
      <i key={at} />
    ))}
  </div>
)
