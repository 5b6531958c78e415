import { createTheme, MantineProvider } from '@mantine/core'
import '@mantine/core/styles.layer.css'
import '@xyflow/react/dist/base.css'
import '@fontsource-variable/inter/wght.css'
import { QueryClientProvider } from '@tanstack/react-query'
import { createRoot } from 'react-dom/client'
import { queries } from './api/queries'
import { App } from './shell/App'
import { beginAhead } from './shell/ahead'
import './style/base.css'
import './style/shell.css'
import './style/parts.css'
import './style/run.css'
import './style/pages.css'
import './style/editor.css'

beginAhead(location.pathname)

const nonce = document.querySelector<HTMLMetaElement>('meta[name=csp-nonce]')?.content ?? ''
/** The main button is in ink: the sixth is that of dark colours, the ninth that of light ones. */
const INK = [
  '#f6f6f3',
  '#eceeea',
  '#dfded8',
  '#c3c9c5',
  '#a2aaa5',
  '#7c857f',
  '#e9ece8',
  '#5c635f',
  '#303633',
  '#1d211f',
] as const
const theme = createTheme({
  fontFamily: "'Inter Variable', system-ui, sans-serif",
  fontFamilyMonospace: 'ui-monospace, "SF Mono", Menlo, Consolas, monospace',
  colors: { ink: INK },
  primaryColor: 'ink',
  primaryShade: { light: 9, dark: 6 },
  autoContrast: true,
  defaultRadius: 6,
  cursorType: 'pointer',
  // The body never scrolls; the lock would add a style element without our nonce, which the policy refuses.
  components: { Modal: { defaultProps: { lockScroll: false } }, Drawer: { defaultProps: { lockScroll: false } } },
})
const root = document.getElementById('root')
if (root)
  createRoot(root).render(
    <MantineProvider theme={theme} defaultColorScheme="auto" getStyleNonce={() => nonce}>
      <QueryClientProvider client={queries}>
        <App />
      </QueryClientProvider>
    </MantineProvider>,
  )
